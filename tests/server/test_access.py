"""Who may ask a server: its names, its token, and the sites whose scripts it allows."""

import asyncio

import pytest

from flowerml.server.access import Access
from flowerml.server.errors import HttpError
from flowerml.server.settings import Settings

TOKEN = "0123456789abcdef"
SHOP = "https://shop.example"


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def ask(headers=(), *, method="POST", path="/predict", arrived_at="127.0.0.1", **values):
    """Return (status, headers) of an answer, with what CORS adds; raises HttpError as Access does."""
    access = Access(hello, Settings(models={"flowers": "models/flowers"}, **values))
    names = {name for name, _ in headers}
    sent = [*([] if "host" in names else [("host", "localhost:5001")]), *headers]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "server": (arrived_at, 5001),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent],
    }
    messages = []

    async def send(message):
        messages.append(message)

    asyncio.run(access(scope, None, access.cors(scope, send)))
    return messages[0]["status"], {name.decode(): value.decode() for name, value in messages[0]["headers"]}


def refusal(headers=(), **values):
    with pytest.raises(HttpError) as error:
        ask(headers, **values)
    return error.value


def test_loopback_is_answered():
    assert ask()[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5001", "localhost:80", "", "localhost:5001@evil"])
def test_foreign_host_is_refused(host):
    assert (refusal([("host", host)]).status, refusal([("host", host)]).code) == (403, "unknown_host")


def test_two_hosts_are_refused():
    assert refusal([("host", "localhost:5001"), ("host", "evil.example")]).code == "unknown_host"


def test_allowed_host_and_own_address_are_answered():
    assert ask([("host", "models.example.org")], allowed_hosts=("models.example.org",))[0] == 200
    own = {"host": "0.0.0.0", "no_token": True}
    assert ask([("host", "192.168.1.5:5001")], arrived_at="192.168.1.5", **own)[0] == 200
    assert refusal([("host", "0.0.0.0:5001")], arrived_at="192.168.1.5", **own).code == "unknown_host"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer 0123456789abcdeF", "Basic 0123456789abcdef", "0123456789abcdef", f"Bearer {TOKEN}x",
     "Bearer é", f"Bearer {TOKEN} {TOKEN}"],
)  # fmt: skip
def test_wrong_token_is_refused(header):
    error = refusal([("authorization", header)] if header else [], token=TOKEN)
    assert (error.status, error.headers) == (401, {"www-authenticate": "Bearer"})
    assert TOKEN not in error.message


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_token_is_answered(scheme):
    assert ask([("authorization", f"{scheme} {TOKEN}")], token=TOKEN)[0] == 200


def test_two_tokens_are_refused():
    headers = [("authorization", "Bearer wrong"), ("authorization", f"Bearer {TOKEN}")]
    assert refusal(headers, token=TOKEN).status == 401


def test_probes_need_no_token():
    assert ask(method="GET", path="/ready", token=TOKEN)[0] == 200
    assert ask(method="HEAD", path="/ping", token=TOKEN)[0] == 200
    for method, path in [("POST", "/ready"), ("GET", "/health"), ("GET", "/metrics"), ("GET", "/ready/")]:
        assert refusal(method=method, path=path, token=TOKEN).status == 401


@pytest.mark.parametrize("origin", [SHOP, "null", "http://localhost:9000", "https://shop.example.evil"])
def test_foreign_origin_is_refused(origin):
    assert refusal([("origin", origin)]).code == "unknown_origin"


def test_own_origin_is_answered():
    assert ask([("origin", "http://localhost:5001")])[0] == 200


def test_allowed_origin_may_read_the_answer():
    status, headers = ask([("origin", SHOP)], origins=(SHOP,))
    assert (status, headers["access-control-allow-origin"], headers["vary"]) == (200, SHOP, "Origin")
    assert refusal([("origin", "https://evil.example")], origins=(SHOP,)).code == "unknown_origin"
    assert "access-control-allow-origin" not in ask(origins=(SHOP,))[1]


def test_any_origin_may_be_allowed():
    assert ask([("origin", SHOP)], origins=("*",))[1]["access-control-allow-origin"] == "*"


def test_preflight_needs_no_token():
    asked = [("access-control-request-method", "POST"), ("access-control-request-headers", "authorization")]
    status, headers = ask([("origin", SHOP), *asked], method="OPTIONS", origins=(SHOP,), token=TOKEN)
    assert (status, headers["access-control-allow-origin"]) == (204, SHOP)
    assert "authorization" in headers["access-control-allow-headers"]
    assert refusal([("origin", "https://evil.example"), *asked], method="OPTIONS", origins=(SHOP,)).status == 403
