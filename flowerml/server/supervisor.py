"""The workers of one server: processes that share its socket, are restarted when they die, and end with it."""

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from multiprocessing.context import SpawnProcess
from types import FrameType

from flowerml.core.errors import FlowermlError
from flowerml.core.urls import scrub_output
from flowerml.server import console
from flowerml.server.process import Announce, run_process
from flowerml.server.settings import Settings

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CHECK_SECONDS = 0.2
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
HEALTHY_SECONDS = 30.0
"""A worker that dies later than that is restarted at once."""
KILL_SECONDS = 15.0
"""After the grace of its requests, a worker that has not ended is killed."""
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_log = logging.getLogger(__name__)
_spawn = get_context("spawn")


@dataclass
class Worker:
    """One place among the workers, and the process that has it. `pipe` brings its one message: that it has started, or
    why it cannot.
    """

    process: SpawnProcess
    pipe: connection.Connection
    began: float = field(default_factory=time.monotonic)

    def message(self, seconds: float = 0.0) -> tuple[str, list[str]] | None:
        """Return what it says within this time; None for nothing."""
        with suppress(EOFError, OSError):
            if self.pipe.poll(seconds):
                kind, lines = self.pipe.recv()
                return str(kind), list(lines)
        return None


class Supervisor:
    """Starts the workers and restarts those that die.

    Not uvicorn's Multiprocess: its workers go on as orphans, and hold the port, when their parent is killed; each of
    them would report a model that is missing; and a second signal does not end it.
    """

    def __init__(self, settings: Settings, listening: socket.socket, announce: Announce) -> None:
        self.settings = settings
        self.listening = listening
        self.announce = announce
        self.workers: list[Worker] = []
        self.failures = 0
        self.signals: list[int] = []

    def run(self) -> int:
        """Serve until a signal arrives and return the exit code; raises FlowermlError where the models do not load."""
        console.configure(access_log=False)
        with _metrics_folder(), self._caught():
            try:
                self._start_first()
                while len(self.workers) < self.settings.workers and not self.signals:
                    self.workers.append(self._start())
                while not self.signals:
                    connection.wait([worker.process.sentinel for worker in self.workers], timeout=CHECK_SECONDS)
                    self._restart_dead()
                self.listening.close()
                return self._stop()
            finally:
                for worker in self.workers:
                    worker.process.kill()

    def _start_first(self) -> None:
        """Start a worker and wait until it answers: what it cannot load, the others cannot either."""
        worker = self._start()
        self.workers.append(worker)
        while not self.signals:
            message = worker.message(CHECK_SECONDS)
            if message is None and not worker.process.is_alive():
                message = worker.message() or ("error", [f"a worker ended with exit code {worker.process.exitcode}"])
            if message is not None:
                kind, lines = message
                if kind == "error":
                    raise FlowermlError(" ".join(lines))
                self.announce(lines)
                return

    def _start(self) -> Worker:
        ours, theirs = _spawn.Pipe()
        process = _spawn.Process(target=work, args=(self.settings, self.listening, theirs), name="flowerml worker")
        process.start()
        theirs.close()
        return Worker(process, ours)

    def _restart_dead(self) -> None:
        for place, worker in enumerate(self.workers):
            if worker.process.is_alive():
                continue
            worker.process.join()
            message = worker.message()
            reason = (
                " ".join(message[1]) if message and message[0] == "error" else f"exit code {worker.process.exitcode}"
            )
            if time.monotonic() - worker.began > HEALTHY_SECONDS:
                self.failures = 0
            pause = min(FIRST_PAUSE * 2**self.failures, LONGEST_PAUSE) if self.failures else 0.0
            self.failures += 1
            _log.warning("a worker ended (%s); another is started%s", reason, f" in {pause:g} s" if pause else "")
            self._sleep(pause)
            if not self.signals:
                worker.pipe.close()
                self.workers[place] = self._start()

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.signals and time.monotonic() < end:
            time.sleep(CHECK_SECONDS)

    def _stop(self) -> int:
        """Let the workers end; a second signal, or one that hangs, kills them."""
        for worker in self.workers:
            worker.process.terminate()
        deadline = time.monotonic() + self.settings.grace + KILL_SECONDS
        while alive := [worker.process.sentinel for worker in self.workers if worker.process.is_alive()]:
            connection.wait(alive, timeout=CHECK_SECONDS)
            if len(self.signals) > 1:
                return 128 + self.signals[-1]
            if time.monotonic() > deadline:
                _log.warning("%d workers did not end; they are killed", len(alive))
                return 1
        return 0

    @contextmanager
    def _caught(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self.signals.append(number)

        before = {number: signal.signal(number, note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def work(settings: Settings, listening: socket.socket, pipe: connection.Connection) -> None:
    """Serve in a worker, and end with the supervisor: by its signal, or when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the supervisor tells its workers
    scrub_output()
    threading.Thread(target=_end_with, args=(pipe,), name="supervisor", daemon=True).start()
    try:
        run_process(settings, listening, lambda lines: pipe.send(("started", lines)))
    except FlowermlError as error:
        pipe.send(("error", [str(error)]))
        sys.exit(1)


def _end_with(pipe: connection.Connection) -> None:
    with suppress(EOFError, OSError):
        pipe.recv()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _metrics_folder() -> Iterator[None]:
    """Give the workers a folder in which their metrics are added up. Their prometheus_client reads its name."""
    with tempfile.TemporaryDirectory(prefix="flowerml-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[METRICS_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[METRICS_VARIABLE]
