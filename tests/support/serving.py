"""A real `mlflow models serve`, requests to it, and made-up answers."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowerml.serving.answer import Answer

JSON = "application/json"
MODEL = {"name": "m", "version": "3"}


@dataclass(frozen=True)
class Reply:
    """The reply to a request."""

    status: int
    text: str

    @property
    def predictions(self) -> list[Any]:
        """Return one answer for each row."""
        assert self.status == 200, self.text[:1000]
        return json.loads(self.text)["predictions"]

    @property
    def codes(self) -> list[str]:
        """Return the code of each answer's error, "top" for an answer without one."""
        return [answer["error"]["code"] or "top" for answer in self.predictions]


@dataclass(frozen=True)
class Served:
    """A running server of one model."""

    port: int
    group: int

    @property
    def address(self) -> str:
        """Return the URL of its predictions."""
        return f"http://127.0.0.1:{self.port}/invocations"

    def post(self, body: bytes, *, content_type: str | None = JSON, method: str = "POST") -> Reply:
        """Return the reply to a body as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, "/invocations", body, {"Content-Type": content_type} if content_type else {})
            reply = connection.getresponse()
            return Reply(reply.status, reply.read().decode())

    def ask(self, body: dict[str, Any]) -> Reply:
        """Return the reply to a body of JSON."""
        return self.post(json.dumps(body).encode())

    def memory(self) -> float:
        """Return the resident memory of the process that answers, in MB."""
        return max(map(_resident, _members(self.group)))


@contextlib.contextmanager
def served(model: str, folder: Path, *, tracking_uri: str) -> Iterator[Served]:
    """Serve a model while the block lasts; the log is written to `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    command = [programs / "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "--port", str(port)]
    with (folder / "log.txt").open("w+") as log:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": tracking_uri},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait_until_ready(port, server, log)
            yield Served(port, server.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=60)


def _wait_until_ready(port: int, server: "subprocess.Popen[bytes]", log: Any, seconds: int = 240) -> None:
    for _ in range(seconds * 4):
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        if server.poll() is not None:
            break
        time.sleep(0.25)
    log.seek(0)
    raise AssertionError(f"the server did not come up:\n{log.read()}")


def _members(group: int) -> list[Path]:
    """Return the processes of a group, as paths under /proc."""
    return [path for path in Path("/proc").glob("[0-9]*") if _group(path) == group]


def _group(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[2])
    except OSError:
        return None


def _resident(process: Path) -> float:
    try:
        status = (process / "status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)


def make_answer(*probabilities: float, **fields: Any) -> Answer:
    """Return an answer with these probabilities for the classes c0, c1 and so on."""
    top = [
        {"label": f"c{index}", "name": f"C{index}", "probability": value} for index, value in enumerate(probabilities)
    ]
    return Answer.from_json({"top": top, "model": MODEL, **fields})
