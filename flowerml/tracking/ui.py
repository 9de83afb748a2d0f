"""A process of `mlflow ui` for the database here, from its start to its end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from flowerml.core.errors import FlowermlError

HOST = "127.0.0.1"
START_TIMEOUT = 120.0  # seconds; MLflow takes 5 to import, and minutes on a busy machine
STOP_TIMEOUT = 5.0
SHOWN = 300  # characters of what it printed
# MLflow's runner of jobs for prompts and traces would start eight more processes, which keep a core busy for a minute.
WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@contextmanager
def running(store: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `mlflow ui` on a port of this machine, and yield its process once it answers; it is ended after the block.

    Raises FlowermlError, one line, for a port that is in use, and where it does not start.
    """
    _check_free(port)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--host", HOST, "--port", str(port)]
    with TemporaryFile() as log:
        # A group of its own: MLflow starts more processes, and Ctrl-C is to end them all, in order.
        process = subprocess.Popen(
            [*command, "--workers", "1"],
            env={**WITHOUT_JOBS, **os.environ},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for_answer(process, port, log)
            yield process
        finally:
            _stop(process)


def address(port: int) -> str:
    """Return the address of the server."""
    return f"http://{HOST}:{port}"


def _check_free(port: int) -> None:
    with socket.socket() as server:
        # As servers do: the port of one that has just ended is free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError as error:
            reason = "needs more rights" if isinstance(error, PermissionError) else "is in use"
            raise FlowermlError(f"port {port} {reason}; choose another one, such as --port {_free_port()}") from None


def _free_port() -> int:
    with socket.socket() as server:
        server.bind((HOST, 0))
        return int(server.getsockname()[1])


def _wait_for_answer(process: "subprocess.Popen[bytes]", port: int, log: IO[bytes]) -> None:
    opener = build_opener(ProxyHandler({}))  # a proxy of the environment knows nothing of this machine
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end:
        if process.poll() is not None:
            raise FlowermlError(f"mlflow ui ended with status {process.returncode}: {_last_line(log)}")
        with suppress(URLError, OSError), opener.open(f"{address(port)}/health", timeout=5):
            return
        time.sleep(0.2)
    raise FlowermlError(f"mlflow ui has not answered within {START_TIMEOUT:g} s: {_last_line(log)}")


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:SHOWN] if lines else "it printed nothing"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server and the processes that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
            break
    with suppress(ProcessLookupError):  # a process of the group that outlived the first one
        os.killpg(process.pid, signal.SIGKILL)
