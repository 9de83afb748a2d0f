"""Every route of the page, asked by raw HTTP as a browser, a foreign web site and an attacker would."""

import http.client
import json
import os
import re
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from flowerml import web
from flowerml.web import server

USED = {
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/theme.css"),
    ("GET", "/favicon.ico"),
    ("GET", "/manifest.json"),
    ("GET", "/robots.txt"),
    ("GET", "/static/{path:path}"),
    ("GET", "/assets/{path:path}"),
    ("GET", "/gradio_api/file={path_or_url:path}"),
    ("GET", "/gradio_api/upload_progress"),
    ("GET", "/gradio_api/queue/data"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/gradio_api/reset"),
}
META = {"meta": {"_type": "gradio.FileData"}}
SECRET = b"the content of a secret file"


@pytest.fixture(scope="module")
def page():
    """A page whose model is not there: requests to the page never get that far."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    running = web.launch(models=[], endpoints=["image=http://127.0.0.1:1"], port=port, block=False)
    yield SimpleNamespace(port=port, host=f"127.0.0.1:{port}", folder=Path(running.files.name))
    running.close()


def ask(page, method, path, body=None, **headers):
    """Send one request exactly as given, and return its status, headers and body."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    headers = {"Host": page.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is not None:
        headers.setdefault("Content-Length", str(len(body)))
    for name, value in headers.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    try:
        content = response.read()
    except http.client.IncompleteRead as error:  # Gradio ends the stream of an unknown tab so
        content = error.partial
    connection.close()
    return SimpleNamespace(status=response.status, headers=response.headers, body=content)


@pytest.fixture
def cookie(page):
    return new_cookie(page)


def new_cookie(page):
    return ask(page, "GET", "/").headers["Set-Cookie"].split(";")[0]


def form(*contents):
    parts = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n' + content + b"\r\n"
        for content in contents
    )
    return b"".join(parts) + b"--x--\r\n"


def upload(page, cookie, raw=SECRET, **headers):
    kind = "multipart/form-data; boundary=x"
    return ask(page, "POST", "/gradio_api/upload", form(raw), Cookie=cookie, Content_Type=kind, **headers)


def asked(page, cookie, value, **fields):
    """Ask about a picture as the page's script does, and return the status, or what the page then shows."""
    tab = f"tab{time.monotonic_ns()}"
    body = {"data": [value], "fn_index": 0, "session_hash": tab, **fields}
    response = ask(page, "POST", "/gradio_api/queue/join", body, Cookie=cookie)
    if response.status != 200:
        return response.status
    shown = ask(page, "GET", f"/gradio_api/queue/data?session_hash={tab}", Cookie=cookie).body.decode()
    return re.sub("<[^>]*>", " ", shown)


def routes():
    """Return the method and path of every route that Gradio registers for this page."""
    from flowerml.web.page import AnswerView, build
    from flowerml.web.sources import load
    from flowerml.web.uploads import Uploads

    sources = load([], ["image=http://127.0.0.1:1"], timeout=1)
    app = server._gradio(build(sources, AnswerView(5, None), Uploads(), 1)).routes[-1].app
    pending, paths = list(app.routes), set()
    while pending:
        route = pending.pop()
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        pending.extend(inner or [])
        if not inner:
            prefix = getattr(getattr(route, "include_context", None), "prefix", "")
            paths |= {(method, prefix + route.path) for method in getattr(route, "methods", None) or ("GET",)}
    return paths


def test_unused_routes_are_closed(page, cookie):
    registered = routes()
    assert len(registered) > 40
    assert registered >= USED
    for method, path in registered - USED:
        example = re.sub(r"\{[^}]*\}", "x", path)
        assert ask(page, method, example, b"{}" if method == "POST" else None, Cookie=cookie).status in (404, 405), path


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/component_server", "/gradio_api/proxy=http://example.com", "/proxy=http://example.com", "/config",
     "/gradio_api/call/predict", "/gradio_api/run/predict", "/gradio_api/stream/x", "/monitoring",
     "/monitoring/summary",
     "/gradio_api/mcp/sse", "/gradio_api/mcp/", "/docs", "/openapi.json", "/gradio_api/info", "/gradio_api/heartbeat/a",
     "/gradio_api/vibe-code", "/login", "/queue/join", "/upload", "/file=/etc/passwd", "//",
     "/?/../config", "/%2e%2e/config", "/svelte/a", "/custom_component/a/b/c/d", "/gradio_api/queue/join/",
     "/gradio_api//upload",
     "/gradio_api/dev/reload"],
)  # fmt: skip
def test_other_paths_are_closed(page, cookie, path):
    for method in ("GET", "POST"):
        expected = (200, 405) if path.startswith("/?") else (404,)
        assert ask(page, method, path, b"" if method == "POST" else None, Cookie=cookie).status in expected


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "FOO"])
def test_other_methods_are_refused(page, cookie, method):
    for path in ("/", "/gradio_api/upload", "/gradio_api/queue/join", "/theme.css"):
        assert ask(page, method, path, Cookie=cookie).status == 405


@pytest.mark.parametrize("path", [path for _, path in sorted(USED)])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_foreign_requests_are_refused(page, cookie, path, headers):
    for method in ("GET", "POST"):
        body = b"{}" if method == "POST" else None
        assert ask(page, method, re.sub(r"\{[^}]*\}", "x", path), body, Cookie=cookie, **headers).status == 403


def test_host_refusal_says_what_to_do(page):
    message = ask(page, "GET", "/", Host="rebound.example:80").body.decode()
    assert message == (
        f"this page does not answer to 'rebound.example:80'; open it at localhost:{page.port}, or start it with "
        "--allowed-host NAME"
    )


def test_another_site_may_link_here(page):
    headers = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(page, "GET", "/", **headers).status == 200
    assert ask(page, "GET", "/theme.css", **headers).status == 403


def test_foreign_upload_is_not_kept(page, cookie):
    assert upload(page, cookie, Origin="http://evil.example").status == 403
    assert upload(page, "", raw=b"no cookie").status == 403
    assert list(page.folder.rglob("*.*")) == []


def test_upload_is_read_back(page, cookie):
    (key,) = json.loads(upload(page, cookie, Origin=f"http://{page.host}").body)
    picture = ask(page, "GET", f"/gradio_api/file={key}", Cookie=cookie)
    assert picture.body == SECRET
    assert picture.headers["Content-Type"] == "application/octet-stream"
    assert picture.headers["Content-Disposition"] == "attachment"
    assert "cannot be reached" in asked(page, cookie, {"path": key, **META})
    assert [path for path in page.folder.rglob("*") if path.is_file()] == []


def test_sessions_do_not_share_uploads(page, cookie):
    (key,) = json.loads(upload(page, cookie).body)
    other = new_cookie(page)
    for thief in (other, "", "flowerml=x"):
        assert ask(page, "GET", f"/gradio_api/file={key}", Cookie=thief).status in (403, 404)
    assert "was not uploaded here" in asked(page, other, {"path": key})


def test_sessions_do_not_share_tabs(page, cookie):
    (key,) = json.loads(upload(page, cookie).body)
    body = {"data": [{"path": key}], "fn_index": 0, "session_hash": "tab"}
    assert ask(page, "POST", "/gradio_api/queue/join", body, Cookie=cookie).status == 200
    stolen = ask(page, "GET", "/gradio_api/queue/data?session_hash=tab", Cookie=new_cookie(page))
    assert b"process_completed" not in stolen.body
    assert b"process_completed" in ask(page, "GET", "/gradio_api/queue/data?session_hash=tab", Cookie=cookie).body


@pytest.fixture
def secret(tmp_path, page):
    """A file of the user, and a symlink to it where Gradio keeps uploads."""
    (tmp_path / "secret.jpg").write_bytes(SECRET)
    link = page.folder / "link.jpg"
    link.symlink_to(tmp_path / "secret.jpg")
    yield tmp_path / "secret.jpg", link
    link.unlink()


def test_no_path_is_read(page, cookie, secret):
    file, link = map(str, secret)
    local = [file, link, f"{page.folder}/../{page.folder.name}/link.jpg", str(page.folder), "../../etc/passwd"]
    for path in [*local, "/dev/zero", os.curdir, "http://127.0.0.1:1/a", "file:///etc/passwd", "\0", "a" * 100_000]:
        for value in ({"path": path}, {"path": path, **META}, {"path": path, "url": file, "is_stream": True}):
            assert "was not uploaded here" in asked(page, cookie, value), path


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        str(Path(__file__)),
        "../../etc/passwd",
        "%2fetc%2fpasswd",
        "http://example.com/a.jpg",
        "sample-99",
        "a/b",
    ],
)
def test_local_files_are_not_served(page, cookie, path):
    assert ask(page, "GET", f"/gradio_api/file={path}", Cookie=cookie).status == 404


@pytest.mark.parametrize("root", ["static", "assets"])
@pytest.mark.parametrize(
    "path", ["../routes.py", "..%2froutes.py", "%2e%2e/%2e%2e/routes.py", "/etc/passwd", "a\\..\\b"]
)
def test_static_files_stay_inside(page, root, path):
    assert ask(page, "GET", f"/{root}/{path}").status == 404


def test_deep_link_opens_no_file(page):
    for query in ("deep_link=../../../etc/passwd", "deep_link=%00", "view=api", "__theme=dark"):
        assert ask(page, "GET", f"/?{query}").status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"1" * 10_000, b"[" * 100_000, b'{"data": NaN}', b"\xff\xfe", {}, {"data": {}},
        {"data": [[]]}, {"data": [1]}, {"data": [{"path": 1}]}, {"data": [{"url": "http://127.0.0.1"}]},
        {"data": [None] * 9},
        {"data": [None], "fn_index": 99}, {"data": [None], "fn_index": -1}, {"data": [None], "fn_index": "0"},
        {"data": [None], "fn_index": True}, {"data": [None], "fn_index": 0},
        {"data": [None], "fn_index": 0, "session_hash": 1},
        {"data": [None], "fn_index": 0, "session_hash": "a" * 65},
        {"data": [None], "fn_index": 0, "session_hash": "a", "trigger_id": []},
        {"data": [], "fn_index": 1, "session_hash": "a", "event_data": {"index": -1}},
        {"data": [], "fn_index": 1, "session_hash": "a", "event_data": {"index": "0"}},
    ],
)  # fmt: skip
def test_bad_question_is_refused(page, cookie, body):
    assert ask(page, "POST", "/gradio_api/queue/join", body, Cookie=cookie).status == 400


@pytest.mark.parametrize("value", [[], [None, None], ["text"], ["\udc80"], [None]])
def test_odd_question_ends(page, cookie, value, caplog):
    tab = f"tab{time.monotonic_ns()}"
    body = {"data": value, "fn_index": 0, "session_hash": tab, "batched": True, "event_id": "x", "simple_format": True}
    if ask(page, "POST", "/gradio_api/queue/join", body, Cookie=cookie).status == 200:
        shown = ask(page, "GET", f"/gradio_api/queue/data?session_hash={tab}", Cookie=cookie).body
        assert b"process_completed" in shown or b"error" in shown
    assert "no response" not in caplog.text


def test_unknown_sample_changes_nothing(page, cookie):
    assert '"success":true' in asked(page, cookie, None, data=[], fn_index=1, event_data={"index": 999})


@pytest.mark.parametrize("body", [b"", b"[]", {}, {"session_hash": 1, "event_id": []}, {"session_hash": "a" * 99}])
def test_bad_cancel_is_refused(page, cookie, body):
    assert ask(page, "POST", "/gradio_api/cancel", body, Cookie=cookie).status == 400


def test_sizes_are_checked_unread(page, cookie):
    for path in ("upload", "queue/join", "cancel", "reset"):
        response = ask(page, "POST", f"/gradio_api/{path}", b"", Cookie=cookie, Content_Length=str(10**12))
        assert response.status in (413, 503), path


def raw(page, *chunks):
    """Send bytes, and return what comes back until the server ends the connection; None where it does not."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        received = b""
        try:
            for chunk in chunks:
                connection.sendall(chunk)
            while more := connection.recv(65536):
                received += more
        except TimeoutError:
            return None
        except ConnectionError:
            pass
        return received


def test_endless_chunked_body_is_refused(page, cookie):
    head = f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: {page.host}\r\nCookie: {cookie}\r\n"
    chunk = b"100000\r\n" + b"a" * 2**20 + b"\r\n"
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 9)
        assert b" 413 " in connection.recv(65536)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        # Without `close` the connection would be kept alive for another request, which takes 5 s to end.
        b"GET http://a.b/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)  # fmt: skip
def test_broken_request_is_refused(page, request_):
    response = raw(page, request_)
    assert response is not None
    assert response == b"" or response.split()[1] in (b"400", b"403", b"404")


def test_old_request_without_host_is_refused(page):
    assert b" 403 " in raw(page, b"GET / HTTP/1.0\r\n\r\n")


def test_idle_connections_are_ended(page, monkeypatch):
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.3)
    assert raw(page) == b""
    assert raw(page, b"GET / HTTP/1.1\r\nHost: ") == b""
    head = f"GET /robots.txt HTTP/1.1\r\nHost: {page.host}\r\n\r\nG".encode()
    assert raw(page, head).startswith(b"HTTP/1.1 200")  # one byte after it ends uvicorn's own timer


def test_connections_are_bounded(page, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 5)
    held = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(5)]
    try:
        time.sleep(0.1)
        assert raw(page) == b""
    finally:
        for connection in held:
            connection.close()


def test_proxy_headers_name_no_other_server(page):
    response = ask(page, "GET", "/", X_Forwarded_Host="evil.example", X_Gradio_Server="http://evil.example")
    assert response.status == 200
    assert b"evil.example" not in response.body


def test_answers_carry_headers(page):
    for path in ("/", "/theme.css", "/nothing"):
        headers = ask(page, "GET", path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert "http" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Access-Control-Allow-Origin"] is None


def test_session_cookie_is_for_the_server_only(page):
    cookie = ask(page, "GET", "/").headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert ask(page, "GET", "/", Cookie=cookie.split(";")[0]).headers["Set-Cookie"] is None
