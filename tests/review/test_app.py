"""The app without a network: who may read and write, and what a request may hold."""

import asyncio
import json

import pytest

from flowerml.review import app
from flowerml.review.table import Decision, Former
from flowerml.web.hosts import Hosts

TOKEN = "secret"
DROP = {"example": 0, "decision": {"kind": "drop", "label": None}, "seen": None}


@pytest.fixture
def session(make_session):
    return make_session()


@pytest.fixture
def ask(session):
    """Return a function that sends one request and returns (status, headers, body)."""
    asgi = app.build(session, token=TOKEN, hosts=Hosts(7861))

    def ask(method="GET", path="/api/review", body=b"", token=TOKEN, **headers):
        given = {"host": "localhost:7861", "content_type": "application/json", **headers}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        return asyncio.run(_ask(asgi, method, path, body, given))

    return ask


async def _ask(asgi, method, path, body, headers):
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
        "server": ("127.0.0.1", 7861), "client": ("127.0.0.1", 9),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    answer = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        answer.append(message)

    await asgi(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in answer[1:])
    return answer[0]["status"], {name.decode(): value.decode() for name, value in answer[0]["headers"]}, content


def decide(ask, value=None, **more):
    return ask("POST", "/api/decisions", json.dumps(DROP if value is None else value).encode(), **more)


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css"])
def test_static_files_need_no_token(ask, path):
    status, headers, content = ask(path=path, token=None)
    assert (status, TOKEN.encode() in content) == (200, False)
    assert "script-src 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/api/review", "/api/state", "/api/examples/0"])
@pytest.mark.parametrize("token", [None, "", "wrong", "sécret"])
def test_data_need_the_token(ask, path, token):
    assert ask(path=path, token=token)[0] == 401


def test_decision_needs_the_token(ask, session):
    assert decide(ask, token=None)[0] == 401
    assert not session.table.path.exists()


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}],
)
def test_other_sites_are_refused(ask, session, headers):
    assert decide(ask, **headers)[0] == 403
    assert not session.table.path.exists()


def test_decision_is_saved(ask, session):
    status, _, content = decide(ask)
    assert (status, json.loads(content)["counts"]["drop"]) == (200, 1)
    assert Former.read(session.table.path).decisions == {"rose/1.jpg": Decision("drop")}


def test_stale_decision_gets_the_state(ask):
    decide(ask)
    status, _, content = decide(ask, {**DROP, "decision": {"kind": "keep"}})
    assert (status, json.loads(content)["state"]["decisions"]) == (409, {"0": {"kind": "drop", "label": None}})


def test_failed_write_is_said(ask, session):
    session.table.path.write_text("another program's")
    status, _, content = decide(ask)
    assert (status, "not saved" in json.loads(content)["error"]) == (500, True)
    assert ask(path="/api/state")[2].count(b"drop") == 1  # the count of it


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({**DROP, "example": 6}, 400),
        ({**DROP, "example": -1}, 400),
        ({**DROP, "example": "rose/1.jpg"}, 400),
        ({**DROP, "example": True}, 400),
        ({**DROP, "decision": "drop"}, 400),
        ({**DROP, "decision": {"kind": "relabel", "label": 99}}, 400),
        ([], 400),
        ({**DROP, "more": "x" * 2000}, 413),
    ],
)
def test_odd_decision_is_refused(ask, value, status):
    assert decide(ask, value)[0] == status


def test_form_is_refused(ask):
    assert decide(ask, content_type="text/plain")[0] == 415


def test_broken_json_is_refused(ask):
    assert [ask("POST", "/api/decisions", body)[0] for body in (b"{", b"[" * 900, b"\xff")] == [400, 400, 400]


@pytest.mark.parametrize("path", ["/api/examples/6", "/api/examples/-1", "/api/examples/..%2f", "/etc/passwd", "/../x"])
def test_no_path_is_read(ask, path):
    assert ask(path=path)[0] == 404


def test_text_is_sent_as_plain_text(ask):
    _, headers, content = ask(path="/api/examples/0")
    assert (content, headers["content-type"]) == (b"<script>rose/1.jpg</script>", "text/plain; charset=utf-8")
    assert headers["x-content-type-options"] == "nosniff"
