"""The end of a server's process: who was accepted is answered."""

import asyncio
import signal
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from flowerml.server import process
from flowerml.server.process import Application, started_lines
from flowerml.server.settings import Settings
from flowerml.tasks.registry import TASKS

CLIENTS = 5
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Busy:
    """An application that holds the whole event loop, so that further connections wait with the system."""

    def __init__(self):
        self.begun = threading.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        self.begun.set()
        time.sleep(0.1)
        await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


def settings(**values):
    return Settings(models={"flowers": "models/flowers"}, **values)


def received(connection):
    """Return all that comes until the server closes."""
    content = b""
    with connection:
        while chunk := connection.recv(4096):
            content += chunk
    return content


def test_end_answers_who_was_accepted():
    app, engine, lines = Busy(), SimpleNamespace(draining=False), []
    server = process._server(settings(), Application(app, SimpleNamespace(names=()), engine), lines.extend)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        clients = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(CLIENTS)]
        clients[0].sendall(REQUEST)
        assert app.begun.wait(60)
        server.handle_exit(signal.SIGTERM, None)
        late = socket.create_connection(("127.0.0.1", port), timeout=60)
        for client in (*clients[1:], late):
            client.sendall(REQUEST)
        contents = [received(client) for client in (*clients, late)]
        thread.join()
    assert all(content.startswith(b"HTTP/1.1 200") and content.endswith(b"ok") for content in contents)
    assert engine.draining and "serving at http://127.0.0.1:5001/" in lines[-1]


def test_what_outlasts_the_grace_gets_503(caplog):
    body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"
    received_at = threading.Event()

    class Reading(Busy):
        async def __call__(self, scope, receive, send):
            if scope["type"] == "lifespan":
                await super().__call__(scope, receive, send)
                return
            received_at.set()
            while (await receive())["type"] != "http.disconnect":
                pass

    models, engine = SimpleNamespace(names=()), SimpleNamespace(draining=False)
    server = process._server(settings(grace=0.05), Application(Reading(), models, engine), lambda lines: None)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        client = socket.create_connection(listening.getsockname(), timeout=60)
        client.sendall(body)
        assert received_at.wait(60)
        server.handle_exit(signal.SIGTERM, None)
        content = received(client)
        thread.join()
    assert content.startswith(b"HTTP/1.1 503") and b'"code":"stopping"' in content
    assert not caplog.records


def test_second_signal_ends_at_once(monkeypatch):
    codes = []
    monkeypatch.setattr(process.os, "_exit", codes.append)
    server = process._server(settings(), Application(Busy(), SimpleNamespace(names=()), SimpleNamespace()), print)
    server.handle_exit(signal.SIGTERM, None)
    assert not codes
    server.handle_exit(signal.SIGINT, None)
    assert codes == [130]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"workers": 2}, "2 workers, each with its own copy"),
        ({"host": "0.0.0.0", "no_token": True}, "there is no token"),
        ({}, "flowers: models/flowers cannot be loaded yet"),
    ],
)
def test_start_says_what_one_must_know(values, line):
    models = SimpleNamespace(names=("flowers",), get=lambda name: SimpleNamespace(current=None))
    assert any(line in given for given in started_lines(settings(**values), models))


@pytest.mark.parametrize("kind", TASKS)
def test_start_shows_how_to_ask_the_task(kind):
    task = TASKS[kind]
    classifier = SimpleNamespace(task=task, kind=kind, classes=("a", "b"))
    loaded = SimpleNamespace(classifier=classifier, model={"name": "flowers", "version": "1"})
    models = SimpleNamespace(names=("flowers",), get=lambda name: SimpleNamespace(current=loaded))
    sent = f"@{task.EXAMPLE_ARGUMENT}" if task.RAW is bytes else task.EXAMPLE_ARGUMENT
    command = started_lines(settings(), models)[1]
    assert command.endswith(f" --data-binary {sent} http://127.0.0.1:5001/predict")
