"""Clients that send or read slowly, too much or nonsense, at uvicorn with our protocol."""

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from flowerml.server import protocol
from flowerml.server.protocol import Bounds, bounded_protocol

SECONDS = 0.15
HEADER_SECONDS = 1.0  # more, as a busy machine may hold a client between its connection and its request
HOST = b"Host: localhost\r\n"
EVER = 60.0  # a client that waits so long has waited in vain
HELD, FREED = threading.Semaphore(0), threading.Event()


async def app(scope, receive, send):
    """Answer with the path: /early before the body, /slow late, /held once FREED, /big with more than buffers hold."""
    path = scope["path"]
    if path != "/early":
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.disconnect":
            return
    if path == "/slow":
        await asyncio.sleep(2 * SECONDS)
    if path == "/held":
        HELD.release()
        while not FREED.is_set():
            await asyncio.sleep(0.01)
    body = path.encode() * (10**6 if path == "/big" else 1)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 413 if path == "/early" else 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port():
    bounds = Bounds(header_seconds=HEADER_SECONDS, idle_seconds=SECONDS, send_seconds=SECONDS, max_connections=3)
    config = uvicorn.Config(app, http=bounded_protocol(bounds), ws="none", lifespan="off", log_config=None)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    number = listening.getsockname()[1]
    thread.start()
    yield number
    server.should_exit = True
    thread.join()


@pytest.fixture(autouse=True)
def short_linger(monkeypatch):
    monkeypatch.setattr(protocol, "LINGER_SECONDS", SECONDS)


@contextmanager
def connected(port, data=b""):
    with socket.create_connection(("127.0.0.1", port), timeout=EVER) as connection:
        connection.sendall(data)
        yield connection


def rest(connection):
    """Return all that comes until the server closes."""
    content = b""
    try:
        while chunk := connection.recv(2**16):
            content += chunk
    except ConnectionResetError:
        pass
    return content


def answers(content):
    """Return (status, body) of each response."""
    result = []
    while content:
        head, _, content = content.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        result.append((int(head.split()[1]), content[:length]))
        content = content[length:]
    return result


def ask(port, data):
    with connected(port, data) as connection:
        return answers(rest(connection))


def get(path, headers=b""):
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n"


def test_silent_and_idle_connections_are_closed(port):
    assert ask(port, b"") == []
    assert ask(port, get(b"/a")) == [(200, b"/a")]


def test_slow_headers_are_ended(port):
    with connected(port, b"GET / HTTP/1.1\r\n") as connection:
        began = time.monotonic()
        try:
            while time.monotonic() - began < EVER:
                connection.sendall(b"a: b\r\n")
                time.sleep(SECONDS / 10)
        except OSError:
            pass
        assert time.monotonic() - began < EVER / 2
        assert b"408 Request Timeout" in rest(connection)


def test_error_is_json_with_request_id(port):
    ((status, body),) = ask(port, b"\x16\x03\x01\r\n\r\n")
    error = json.loads(body)
    assert (status, error["error"]["code"], len(error["request_id"])) == (400, "bad_request", 16)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT evil:443 HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
)
def test_bad_head_is_refused(port, request_bytes, status):
    assert [given for given, _ in ask(port, request_bytes)] == [status]


def test_header_without_end_is_refused(port):
    with connected(port, b"GET / HTTP/1.1\r\nA: ") as connection:
        try:
            for _ in range(30):
                connection.sendall(b"x" * 2000)
                time.sleep(0.001)
        except OSError:
            pass
        assert b"431" in rest(connection)


def test_pipelined_requests_are_answered_in_order_and_bounded(port):
    assert ask(port, get(b"/slow") + get(b"/a") + get(b"/b")) == [(200, b"/slow"), (200, b"/a"), (200, b"/b")]
    assert len(ask(port, get(b"/slow") + get(b"/a") * 100)) == protocol.MAX_PIPELINED + 1


def test_nonsense_after_a_request_does_not_take_its_answer(port):
    assert ask(port, get(b"/slow") + b"nonsense\x00\r\n\r\n") == [(200, b"/slow")]
    assert ask(port, get(b"/a", b"Connection: close\r\n") + get(b"/b")) == [(200, b"/a")]


def test_refused_body_is_discarded_so_that_the_answer_is_read(port):
    for connection in (b"", b"Connection: close\r\n"):
        head = b"POST /early HTTP/1.1\r\n" + HOST + connection + b"Content-Length: 3000000\r\n\r\n"
        assert ask(port, head + b"x" * 3_000_000) == [(413, b"/early")]
        assert ask(port, head + b"x") == [(413, b"/early")]


def test_connection_goes_on_after_a_refused_body(port):
    head = b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\n"
    assert ask(port, head + b"abc" + get(b"/a")) == [(413, b"/early"), (200, b"/a")]


def test_client_that_ended_its_side_gets_its_answers(port):
    with connected(port, get(b"/slow") + get(b"/a")) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert answers(rest(connection)) == [(200, b"/slow"), (200, b"/a")]


def test_client_that_left_ends_its_request(port, monkeypatch, caplog):
    monkeypatch.setattr(protocol, "EOF_SECONDS", SECONDS / 2)
    with connected(port, get(b"/slow") * 5) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == b""
    time.sleep(3 * SECONDS)
    assert not caplog.records


def test_upgrade_is_answered_as_if_it_had_not_asked(port):
    assert ask(port, get(b"/a", b"Connection: Upgrade\r\nUpgrade: h2c\r\n")) == [(200, b"/a")]


def test_client_that_does_not_read_is_disconnected(port):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(EVER)
        connection.connect(("127.0.0.1", port))
        connection.sendall(get(b"/big"))
        time.sleep(3 * SECONDS)
        assert len(rest(connection)) < 4 * 10**6


def test_idle_connection_makes_room(port):
    with connected(port) as first, connected(port), connected(port):
        assert ask(port, get(b"/a")) == [(200, b"/a")]
        assert rest(first) == b""


def test_slow_body_makes_room(port, monkeypatch):
    monkeypatch.setattr(protocol, "BODY_SECONDS", SECONDS / 5)
    slow = b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\nx"
    with connected(port, slow) as first, connected(port, slow), connected(port, slow):
        time.sleep(SECONDS)
        assert ask(port, get(b"/a")) == [(200, b"/a")]
        assert b"408 Request Timeout" in rest(first)


def test_busy_connections_do_not(port):
    FREED.clear()
    with connected(port, get(b"/held")) as first, connected(port, get(b"/held")), connected(port, get(b"/held")):
        try:
            assert all(HELD.acquire(timeout=EVER) for _ in range(3))
            with connected(port) as refused:
                assert b"503 Service Unavailable" in rest(refused)
        finally:
            FREED.set()
        assert answers(rest(first)) == [(200, b"/held")]
