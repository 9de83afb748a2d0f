"""Workers of a server: real processes that die, fail to start, or lose their supervisor."""

import multiprocessing
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from flowerml.core.errors import FlowermlError
from flowerml.server import supervisor
from flowerml.server.settings import Settings
from flowerml.server.supervisor import Supervisor

pytestmark = pytest.mark.extended


def answering(settings, listening, announce):
    """Serve in place of `process.run_process`: answer each connection with the number of the process."""
    if settings.models["flowers"] == "missing":
        raise FlowermlError("there is no such model")
    announce(["serving"])
    listening.settimeout(0.1)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.is_set():
        try:
            connection, _ = listening.accept()
        except OSError:
            continue
        with connection:
            connection.sendall(str(os.getpid()).encode())


def work(*arguments):
    supervisor.run_process = answering
    supervisor_work(*arguments)


supervisor_work = supervisor.work


def supervise(listening, pipe, address="models/flowers"):
    """Run a supervisor, and send what it announces, then its exit code or error."""
    supervisor.work = work
    settings = Settings(models={"flowers": address}, workers=2, grace=1)
    try:
        pipe.send(Supervisor(settings, listening, pipe.send).run())
    except FlowermlError as error:
        pipe.send(str(error))


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def start(listening):
    """Yield a function that starts a supervisor and returns its process and what it says."""
    spawn = multiprocessing.get_context("spawn")
    processes = []

    def started(*arguments):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=supervise, args=(listening, theirs, *arguments))
        process.start()
        processes.append(process)
        return process, ours

    yield started
    for process in processes:
        process.kill()


def said(pipe):
    assert pipe.poll(120)
    return pipe.recv()


def worker(port):
    """Return the number of the process that answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        return int(connection.recv(100))


def test_dead_worker_is_replaced_and_signal_ends_all(start, listening):
    process, pipe = start()
    assert said(pipe) == ["serving"]
    port = listening.getsockname()[1]
    killed = worker(port)
    os.kill(killed, signal.SIGKILL)
    seen = set()
    deadline = time.monotonic() + 60
    while len(seen) < 2 and time.monotonic() < deadline:
        seen.add(worker(port))
        time.sleep(0.05)
    assert len(seen) == 2 and killed not in seen
    os.kill(process.pid, signal.SIGTERM)
    assert said(pipe) == 0
    process.join(60)
    assert not any(is_alive(number) for number in seen)


def test_what_cannot_be_loaded_is_said_once(start):
    assert said(start("missing")[1]) == "there is no such model"


def test_workers_end_with_a_killed_supervisor(start, listening):
    process, pipe = start()
    assert said(pipe) == ["serving"]
    number = worker(listening.getsockname()[1])
    process.kill()
    process.join(60)
    deadline = time.monotonic() + 60
    while is_alive(number) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(number)


def is_alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
