"""The servers that benchmarks/serve.py compares: how each is started, its doors, and what its processes take."""

import base64
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from load import request
from PIL import Image

from flowerml import Classifier

START_SECONDS = 60
STOP_SECONDS = 15
PEERS = Path(__file__).resolve().parent / "peers"
JSON = "application/json"


@dataclass(frozen=True)
class Model:
    """An exported MLflow model: its folder, the classifier's, its kind, and its input example as JSON and raw."""

    folder: Path
    classifier: Path
    kind: str
    column: str
    value: str
    raw: bytes | str

    @classmethod
    def read(cls, folder: Path) -> "Model":
        """Return the model in a folder."""
        body = json.loads((folder / "serving_input_example.json").read_text())
        value = body["dataframe_split"]["data"][0][0]
        classifier = Classifier.load(folder / "artifacts/classifier")
        return cls(
            folder, classifier.folder, classifier.kind, classifier.task.INPUT, value, classifier.task.from_json(value)
        )

    @property
    def body(self) -> bytes:
        """The bytes of a raw body."""
        return self.raw.encode() if isinstance(self.raw, str) else self.raw

    @property
    def content_type(self) -> str:
        """The type of a raw body."""
        return "text/plain; charset=utf-8" if self.kind == "text" else "image/jpeg"


@dataclass(frozen=True)
class Door:
    """An entrance of a server: the request that is measured, and hostile ones beside it."""

    name: str
    good: bytes
    hostile: tuple[bytes, ...]


@dataclass(frozen=True)
class Server:
    """A server's command, with PORT in it, the path that answers 200 when it is ready, and its doors."""

    name: str
    command: tuple[str, ...]
    ready: str
    doors: tuple[Door, ...]
    environment: dict[str, str] = field(default_factory=dict)


def bad_bodies(kind: str) -> tuple[bytes, ...]:
    """Return inputs that no classifier can read: cut short, of another kind, empty, or too large."""
    if kind == "text":
        return b"", b" \n\t " * 100, b"\xff\xfe\xfa" * 100, b"word " * 250_000
    picture = io.BytesIO()
    Image.effect_noise((256, 256), 80).save(picture, "JPEG")
    wall = io.BytesIO()
    Image.new("L", (1, 1)).save(wall, "PNG")
    size = struct.pack(">II", 20_000, 20_000)  # its header's, of 400 megapixels
    header = b"IHDR" + size + wall.getvalue()[24:29]
    content = wall.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + wall.getvalue()[33:]
    return b"", b"no picture" * 100, picture.getvalue()[:5000], content


def raw_door(name: str, path: str, model: Model, *, with_query: bool = True) -> Door:
    """Return an entrance that takes the bytes of a picture or a text."""
    bad = [request(path, model.content_type, body) for body in bad_bodies(model.kind)]
    bad.append(request(path, JSON, b'{"inputs": [[[['))
    bad.append(request(path, "application/xml", b"<a/>"))
    if with_query:
        bad.append(request(f"{path}?topk=1", model.content_type, model.body))
    return Door(name, request(path, model.content_type, model.body), tuple(bad))


def json_door(name: str, path: str, model: Model, key: str | None) -> Door:
    """Return an entrance that takes JSON: an object with the input at a key, or without one as MLflow has it."""

    def body(value: str) -> bytes:
        frame = {"dataframe_split": {"columns": [model.column], "data": [[value]]}}
        return json.dumps(frame if key is None else {key: value}).encode()

    def text(bad: bytes) -> str:
        return bad.decode(errors="replace") if model.kind == "text" else base64.b64encode(bad).decode()

    bad = [request(path, JSON, body(text(value))) for value in bad_bodies(model.kind)]
    bad += [request(path, JSON, broken) for broken in (b'{"dataframe_split": [[[[', b"[" * 2000, b'{"other": 1}')]
    bad.append(request(path, "application/xml", b"<a/>"))
    return Door(name, request(path, JSON, body(model.value)), tuple(bad))


def servers(model: Model, *, workers: int, ours: str | None, bentoml: str | None) -> list[Server]:
    """Return all servers, BentoML where a Python that has it is given; `ours` are options of `flowerml serve`."""
    programs = Path(sys.executable).parent
    mlflow = (str(programs / "mlflow"), "models", "serve", "-m", str(model.folder), "--env-manager", "local")
    flowerml = (str(programs / "flowerml"), "serve", str(model.classifier), "--host", "127.0.0.1")
    lit = (sys.executable, str(PEERS / "litserve_app.py"), str(model.classifier), "PORT", str(workers))
    peer = {"FLOWERML_THREADS": "1", "CLASSIFIER": str(model.classifier.resolve()), "KIND": model.kind}
    invocations = json_door("/invocations", "/invocations", model, None)
    compared = [
        Server(
            "mlflow",
            (*mlflow, "--port", "PORT"),
            "/ping",
            (invocations,),
        ),
        Server(
            "flowerml",
            (*flowerml, "--port", "PORT", *(ours or "").split()),
            "/ready",
            (raw_door("raw", "/predict", model), json_door("json", "/predict", model, "inputs"), invocations),
        ),
        Server("litserve raw", (*lit, "raw"), "/health", (raw_door("raw", "/predict", model, with_query=False),), peer),
        Server("litserve json", (*lit, "json"), "/health", (json_door("json", "/predict", model, "input"),), peer),
        Server("empty", (sys.executable, str(PEERS / "empty_app.py"), "PORT"), "/", (raw_door("raw", "/", model),)),
    ]
    if bentoml:
        command = (bentoml, "-m", "bentoml", "serve", "bentoml_app:Peer", "--working-dir", str(PEERS))
        doors = (
            raw_door("raw", "/raw", model, with_query=False),
            json_door("json", "/predict", model, "input"),
        )
        environment = peer | {
            "WORKERS": str(workers),
            "BENTOML_DO_NOT_TRACK": "True",
            "PYTHONPATH": str(PEERS.parents[1]),
        }
        compared.append(
            Server("bentoml", (*command, "--host", "127.0.0.1", "--port", "PORT"), "/readyz", doors, environment)
        )
    return compared


@dataclass(frozen=True)
class Running:
    """A server that runs: its port and its first process."""

    server: Server
    port: int
    process: psutil.Process

    def memory(self) -> float:
        """Return the memory of its processes in MB; pages that they share count once (PSS)."""
        total = 0
        for process in (self.process, *self.process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                total += process.memory_full_info().pss
        return total / 1e6


@contextmanager
def running(server: Server) -> Iterator[Running]:
    """Run a server on a free port of the loopback device; exit where it does not come up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(port) if word == "PORT" else word for word in server.command]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **server.environment}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            if not _comes_up(port, server.ready, process):
                log.seek(0)
                last = log.read().decode(errors="replace").strip().splitlines()[-1:]
                sys.exit(f"error: {server.name} did not come up within {START_SECONDS} s: {' '.join(last)}")
            yield Running(server, port, psutil.Process(process.pid))
        finally:
            stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server and its workers."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=STOP_SECONDS)
            break
    with contextlib.suppress(ProcessLookupError):  # workers that outlive their parent
        os.killpg(process.pid, signal.SIGKILL)


def _comes_up(port: int, path: str, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return True
        time.sleep(0.1)
    return False
