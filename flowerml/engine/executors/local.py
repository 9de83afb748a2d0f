"""Workers as processes of this machine, which end with the driver, however that ends.

Why not a library (two workers that import torch, on 2 busy cores): concurrent.futures.ProcessPoolExecutor with `spawn`
and loky take 10 to 11 s until both are there, and one killed worker breaks the whole pool (BrokenProcessPool,
TerminatedWorkerError), so that a search would lose its other trials; neither keeps an object in a chosen process. Here
the first is there after 5.4 s, each further one 0.1 s later, also the one that replaces a lost one. A process of
multiprocessing.managers goes on for ever when its driver is killed.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from flowerml.core.errors import FlowermlError
from flowerml.engine.executors import fork_server
from flowerml.engine.executors.host import environment
from flowerml.engine.executors.place import Place
from flowerml.engine.executors.remote import Link, RemotePool, WorkerLost, say
from flowerml.engine.executors.sharing import Shared

# Libraries that take long to import and do not mind a fork (onnxruntime is not among them, as it starts a thread).
# Without a warm-up, only those that the driver has imported are.
SLOW_IMPORTS = ("torch", "torchvision", "timm", "scipy.sparse", "pandas", "sklearn.linear_model")
CLOSING = 2.0  # seconds
MAX_LINE = 2_000  # characters of a worker's stderr that are shown in one line
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from flowerml.engine.executors import fork_server; fork_server.{function}()"
)


_warm: "list[_Server]" = []
"""Servers that no pool uses yet."""


def warm_up(place: Place) -> None:
    """Begin to import what workers need, in the process that they will be forked from; never waits.

    Called when a command begins, on a core that is idle then, it saves the 3 to 5 s until the first worker works. The
    next pool of local workers takes the process; it ends with this one. Does nothing where no local worker is wanted.
    """
    if place.engine == "local" and not place.in_process and hasattr(os, "fork") and not _warm:
        _warm.append(_Server(SLOW_IMPORTS))


class LocalPool(RemotePool):
    """Processes of this machine: on one with GPUs each has one of them, else its share of the cores."""

    def __init__(self, place: Place, threads: int, facts: Mapping[str, str]) -> None:
        if not hasattr(os, "fork") or not hasattr(socket, "send_fds"):
            raise FlowermlError(f"{sys.platform}: local workers need Linux or macOS; leave out FLOWERML_WORKERS")
        super().__init__(place, threads, facts)
        self._server: _Server | None = None
        self._starting = threading.Lock()
        self._gpus = _gpus() if facts.get("GPU", "none") != "none" else []
        self._on_gpu: dict[int, str] = {}

    def _share(self, path: Path) -> Shared:
        return Shared(os.path.abspath(path), None)  # noqa: PTH100 — Path.resolve would follow links

    def _link(self, number: int, name: str) -> Link:
        variables = {**os.environ, **environment(self.threads)}
        with self._starting:
            if self._server is None or self._server.ended:
                self._server = _warm.pop() if _warm else _Server([name for name in SLOW_IMPORTS if name in sys.modules])
            server = self._server
            if self._gpus:
                # The one that the fewest living workers use.
                alive = list(self._on_gpu.values())
                self._on_gpu[number] = min(self._gpus, key=alive.count)
                variables["CUDA_VISIBLE_DEVICES"] = self._on_gpu[number]
        # CUDA does not survive a fork, nor does macOS's Objective-C.
        fresh = bool(self._gpus) or sys.platform == "darwin"
        link = server.start(number, name, variables, self.threads, self.token, fresh=fresh)
        link.on_end = lambda: self._on_gpu.pop(number, None)
        return link

    def _shut(self) -> None:
        if self._server is not None:
            self._server.close()


class LocalLink:
    """The pipe of a worker."""

    def __init__(self, server: "_Server", number: int, name: str, connection: Connection) -> None:
        self._server, self._number, self._name, self._connection = server, number, name, connection
        self._ended = threading.Event()
        self.on_end: Any = None

    def request(self, data: bytes, part: Any = None) -> bytes:
        """Send a request and return its reply; raises WorkerLost once the process has ended."""
        try:
            self._connection.send_bytes(data)
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            raise WorkerLost(self._loss()) from None

    def end(self) -> None:
        """Kill the process."""
        self._finish(kill=True)

    def _finish(self, *, kill: bool) -> int | None:
        status = self._server.end(self._number, kill=kill)
        if self.on_end is not None and not self._ended.is_set():
            self.on_end()
        self._ended.set()
        return status

    def _loss(self) -> str:
        status = self._finish(kill=False)
        if status is None:
            how = "ended"
        elif status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        else:
            how = f"ended with exit code {status}"
        advice = "; if memory is short, use fewer workers" if status == -signal.SIGKILL else ""
        return f"{self._name} {how} while it was working{advice}"


class _Server:
    """The process that the workers are forked from."""

    def __init__(self, modules: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        self._lock = threading.Lock()
        read, write = os.pipe()
        with theirs:
            # A Ctrl-C before Python handles signals would print a stack trace: the child inherits what is blocked.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._process = subprocess.Popen(
                    [*_command("main"), str(theirs.fileno()), str(os.getpid()), json.dumps(modules)],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=write,
                    stderr=write,
                    # A library has one thread until its worker asks for more.
                    env={**os.environ, **environment(1)},
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
                os.close(write)
        self._control = ours
        _relay("workers", read)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def start(
        self, number: int, name: str, variables: Mapping[str, str], threads: int, token: str, *, fresh: bool
    ) -> LocalLink:
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        request = {
            "operation": "start",
            "number": number,
            "environment": dict(variables),
            "threads": threads,
            "token": token,
            "fresh": fresh,
            "command": _command("fresh_worker"),
        }
        try:
            with self._lock, theirs:
                fork_server.send(self._control, request, [theirs.fileno(), write])
        except OSError:
            ours.close()
            os.close(read)
            raise WorkerLost(f"{name} could not be started: the process that starts workers has ended") from None
        finally:
            os.close(write)
        _relay(name, read)
        return LocalLink(self, number, name, Connection(ours.detach()))

    def end(self, number: int, *, kill: bool) -> int | None:
        """Return the exit code of a worker that has ended, or is ended now; None where it is not known."""
        try:
            with self._lock:
                fork_server.send(self._control, {"operation": "end", "number": number, "kill": kill})
                message = fork_server.receive(self._control)
        except OSError:
            return None
        return message[0]["status"] if message else None

    def close(self) -> None:
        """End the process and all its workers."""
        self._control.close()
        try:
            self._process.wait(CLOSING)
        except subprocess.TimeoutExpired:  # it is importing
            self._process.kill()
            self._process.wait()


def _command(function: str) -> list[str]:
    """Return the command that runs a function of fork_server with this process's modules."""
    return [sys.executable, "-c", BOOT.format(function=function), json.dumps(sys.path)]


def _gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES may be set to, one value for each GPU."""
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [name.strip() for name in visible.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _relay(name: str, descriptor: int) -> None:
    """Write the lines of a worker's stderr to ours, each with its name, in a thread that ends with the worker."""

    def relay() -> None:
        with os.fdopen(descriptor, encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                if text := line.rstrip():
                    say(f"{name}: {text[:MAX_LINE]}")

    threading.Thread(target=relay, name=f"stderr of {name}", daemon=True).start()
