"""The parent of the local workers: a process that has imported the slow libraries once and is forked for each worker.

A fork takes 20 ms where torch's import takes 3 s, and shares its memory. The driver itself is not forked: it has
threads (of OpenMP, of MLflow), whose locks a fork would keep for ever. multiprocessing's forkserver runs the driver's
`__main__` again in each worker, and takes no environment of its own for each.

The server outlives the driver by a second at most, and no worker outlives the server.
"""

import ctypes
import errno
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

HEADER = struct.Struct("!I")
PR_SET_PDEATHSIG = 1
SECONDS_TO_END = 1.0  # of a worker that was told to


def main() -> None:
    """Serve the driver on the socket whose number is argument 1; arguments 2 and 3: its process, what to import."""
    control, driver, modules = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), json.loads(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the driver ends these
    _import(modules, driver)
    # The garbage collector would write into each page of what was imported, and so copy it in each worker.
    gc.freeze()
    _Server(control, driver).serve()


def _import(modules: list[str], driver: int) -> None:
    """Import modules, which takes seconds; end where the driver does meanwhile."""

    def end_with_driver(*_: object) -> None:
        if os.getppid() != driver:
            os._exit(1)

    # Not PR_SET_PDEATHSIG, which also fires when the driver's thread that started this one ends.
    signal.signal(signal.SIGALRM, end_with_driver)
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


class _Server:
    def __init__(self, control: socket.socket, driver: int) -> None:
        self._control, self._driver = control, driver
        self._processes: dict[int, int] = {}
        self._statuses: dict[int, int] = {}

    def serve(self) -> None:
        """Follow the driver's requests until it ends."""
        try:
            while os.getppid() == self._driver:
                if not select.select([self._control], [], [], 1.0)[0]:
                    continue
                message = receive(self._control)
                if message is None:
                    break
                self._follow(*message)
        except OSError:
            pass  # the driver is gone
        finally:
            for process in self._processes.values():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def _follow(self, request: dict[str, Any], descriptors: list[int]) -> None:
        number = request["number"]
        if request["operation"] == "start":
            connection, errors = descriptors
            server = os.getpid()
            process = os.fork()
            if process == 0:
                self._control.close()
                _become_worker(request, connection, errors, server)
            os.close(connection)
            os.close(errors)
            self._processes[number] = process
        else:
            send(self._control, {"status": self._end(number, kill=request["kill"])})

    def _end(self, number: int, *, kill: bool) -> int | None:
        """Return the exit code of a worker, negative for a signal; kill it first, or after a second."""
        process = self._processes.get(number)
        if process is None:
            return self._statuses.get(number)
        deadline = time.monotonic() + (0 if kill else SECONDS_TO_END)
        while True:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                break
            if time.monotonic() >= deadline:
                os.kill(process, signal.SIGKILL)
                deadline = float("inf")
            time.sleep(0.002)
        del self._processes[number]
        self._statuses[number] = os.waitstatus_to_exitcode(status)
        return self._statuses[number]


def _become_worker(request: dict[str, Any], connection: int, errors: int, server: int) -> None:
    """Serve as a worker in this process, just forked, and end it."""
    code = 1
    try:
        die_with(server)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.dup2(errors, 2)
        os.dup2(2, 1)  # what a library prints belongs to no command's output
        if request["fresh"]:
            os.set_inheritable(connection, True)
            arguments = [*request["command"], str(connection), str(server), str(request["threads"]), request["token"]]
            os.execv(arguments[0], arguments)
        os.close(errors)
        serve(connection, request["threads"], request["token"])
        code = 0
    finally:
        os._exit(code)


def fresh_worker() -> None:
    """Serve as a worker in a process that was started from scratch, for machines whose libraries cannot be forked."""
    connection, server, threads, token = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(server)
    serve(connection, threads, token)


def serve(descriptor: int, threads: int, token: str) -> None:
    """Reply to the driver's requests until it closes the connection."""
    from flowerml.engine.executors.host import Host

    host = Host(threads, token)
    with Connection(descriptor) as connection, suppress(EOFError, ConnectionError):
        while True:
            connection.send_bytes(host.reply(connection.recv_bytes()))
    host.close()


def die_with(parent: int) -> None:
    """Let the system kill this process when its parent ends, where it can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def send(sock: socket.socket, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
    """Send a message, with open files."""
    body = json.dumps(message).encode()
    header = HEADER.pack(len(body))
    sent = socket.send_fds(sock, [header], descriptors) if descriptors else sock.send(header)
    if sent != len(header):
        raise OSError(errno.EIO, "a message was cut off")
    sock.sendall(body)


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next message and its open files; None at the end."""
    header, descriptors, _, _ = socket.recv_fds(sock, HEADER.size, 4)
    if not header:
        return None
    size = HEADER.unpack(header)[0]
    body = b""
    while len(body) < size:
        if not (part := sock.recv(size - len(body))):
            return None
        body += part
    return json.loads(body), descriptors
