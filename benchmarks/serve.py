"""Time a served model: python benchmarks/serve.py PIPELINE|MODEL [--seconds 7] [--json]

Measures, with 1, 8 and 32 clients: Classifier.predict and the MLflow model in threads of this process; the model
behind `mlflow models serve`; and an empty model behind another server, for the cost of HTTP, JSON and pandas alone.
MODEL is an exported folder, PIPELINE stands for models/PIPELINE/mlflow. Every request is the model's own input example.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from flowerml import Classifier

CLIENTS = (1, 8, 32)
WARM_UP_SECONDS = 1.0
START_SECONDS = 120
EMPTY = """
import mlflow

class Empty(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [{"top": [], "model": None}] * len(model_input)

mlflow.models.set_model(Empty())
"""

Row = dict[str, object]


def save_empty_model(folder: Path, signature_of: Path) -> Path:
    """Save a model that has the signature of another and does nothing."""
    import mlflow

    code = folder / "empty.py"
    code.write_text(EMPTY)
    signature = mlflow.models.Model.load(signature_of).signature
    with warnings.catch_warnings(action="ignore"):  # about type hints and an input example
        mlflow.pyfunc.save_model(
            folder / "empty", python_model=str(code), signature=signature, pip_requirements=["mlflow", "pandas"]
        )
    return folder / "empty"


@contextmanager
def served(model: Path) -> Iterator[int]:
    """Run `mlflow models serve` and yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    command = [programs / "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(port, server)
            yield port
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=30)


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the server responds; exit if it does not start."""
    for _ in range(START_SECONDS * 10):
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"error: `mlflow models serve` did not come up within {START_SECONDS} s; run it by hand to see its log")


def in_threads(call: Callable[[], object], clients: int, seconds: float) -> list[float]:
    """Call from `clients` threads without pause; return the latency of each call in seconds."""
    stop = time.perf_counter() + seconds
    latencies: list[float] = []

    def work() -> None:
        while (started := time.perf_counter()) < stop:
            call()
            latencies.append(time.perf_counter() - started)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def over_http(port: int, body: bytes, clients: int, seconds: float) -> list[float]:
    """Send requests over `clients` persistent connections; return the latency of each in seconds.

    All clients are bare sockets in one thread: on a machine with few cores they take CPU time from the server.
    """
    head = ("POST /invocations HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    request = "\r\n".join((*head, f"Content-Length: {len(body)}", "", "")).encode() + body
    latencies: list[float] = []

    async def client(stop: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (started := time.perf_counter()) < stop:
            writer.write(request)
            headers = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(headers.partition(b"content-length:")[2].partition(b"\r\n")[0])
            response = await reader.readexactly(length)
            assert headers.startswith(b"http/1.1 200") and b'"top"' in response, response[:300]
            latencies.append(time.perf_counter() - started)
        writer.close()

    async def all_clients() -> None:
        await asyncio.gather(*(client(time.perf_counter() + seconds) for _ in range(clients)))

    asyncio.run(all_clients())
    return latencies


def measure(name: str, send: Callable[[int, float], list[float]], seconds: float) -> Iterator[Row]:
    """Yield a row for each number of clients."""
    for clients in CLIENTS:
        send(clients, WARM_UP_SECONDS)
        started = time.perf_counter()
        latencies = send(clients, seconds)
        rate = len(latencies) / (time.perf_counter() - started)
        p50, p95, p99 = (float(1000 * value) for value in np.quantile(latencies, (0.5, 0.95, 0.99)))
        yield {"what": name, "clients": clients, "a_second": rate, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def print_table(rows: list[Row]) -> None:
    """Print the rows as a table."""
    table = Table("", "clients", "answers/s", "p50 ms", "p95 ms", "p99 ms")
    for row in rows:
        name, clients, *numbers = row.values()
        table.add_row(str(name), str(clients), *(f"{number:.1f}" for number in numbers))
    Console().print(table)


def in_process(model: Path, body: bytes) -> dict[str, Callable[[], object]]:
    """Return calls of the bare classifier and of the MLflow model around it, each with one input."""
    import mlflow
    import pandas as pd

    classifier = Classifier.load(model / "artifacts/classifier")
    value = json.loads(body)["dataframe_split"]["data"][0][0]
    raw = classifier.task.from_json(value)
    pyfunc = mlflow.pyfunc.load_model(str(model))
    frame = pd.DataFrame({classifier.task.INPUT: [value]})
    return {
        "Classifier.predict": lambda: classifier.predict([raw]),
        "MLflow model, in process": lambda: pyfunc.predict(frame),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="PIPELINE|MODEL")
    parser.add_argument(
        "--seconds", type=float, default=7.0, help="duration of each of the twelve measurements (default: 7)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args()
    model = Path("models", options.model, "mlflow")
    model = model if model.is_dir() else Path(options.model)
    if not (model / "serving_input_example.json").is_file():
        sys.exit(f"error: {model}: no exported model; expected a folder such as models/flowers/mlflow")
    body = (model / "serving_input_example.json").read_bytes()
    rows: list[Row] = []
    for name, call in in_process(model, body).items():
        rows += measure(name, partial(in_threads, call), options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        for name, path in (
            ("served", model),
            ("an empty model, served", save_empty_model(Path(folder), signature_of=model)),
        ):
            with served(path) as port:
                rows += measure(name, partial(over_http, port, body), options.seconds)
    print(json.dumps(rows, indent=2)) if options.json else print_table(rows)


if __name__ == "__main__":
    main()
