"""The exported model, as MLflow loads and serves it."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from flowerml import Classifier
from flowerml.examples import Examples


@pytest.fixture(scope="module")
def picture(reproduced) -> bytes:
    return next(Examples(reproduced.folder / "data/flowers/examples.parquet").of("test")).raw


@pytest.fixture(scope="module")
def encoded(picture) -> str:
    return base64.b64encode(picture).decode()


@pytest.fixture(scope="module")
def expected(reproduced, picture):
    classifier = Classifier.load(reproduced.folder / "models/flowers/classifier")
    (prediction,) = classifier.predict([picture], top_k=3)
    return [pytest.approx(candidate, abs=1e-5) for candidate in prediction.to_json()["top"]]


@contextlib.contextmanager
def served(project, name, folder):
    """The address of a real `mlflow models serve` of the first version."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{project.folder}/mlflow.db",
    }
    command = [programs / "mlflow", "models", "serve", "-m", f"models:/{name}/1", "--env-manager", "local"]
    with (folder / "log.txt").open("w+") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            **{"cwd": folder, "env": environment, "stdout": log, "stderr": log, "start_new_session": True},
        )
        try:
            wait_until_it_answers(f"http://127.0.0.1:{port}/ping", server, log)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=20)


@pytest.fixture(scope="module")
def endpoint(reproduced, tmp_path_factory):
    with served(reproduced, "flowers", tmp_path_factory.mktemp("serve")) as address:
        yield address


@pytest.fixture(scope="module")
def text_endpoint(reproduced, tmp_path_factory):
    with served(reproduced, "reviews", tmp_path_factory.mktemp("serve")) as address:
        yield address


def wait_until_it_answers(url, server, log, seconds=90):
    for _ in range(seconds * 4):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        if server.poll() is not None:
            break
        time.sleep(0.25)
    log.seek(0)
    raise AssertionError(f"the server did not come up:\n{log.read()}")


def ask(endpoint, body):
    request = urllib.request.Request(endpoint, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)["predictions"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda image: {"dataframe_split": {"columns": ["image"], "data": [[image]]}},
        lambda image: {"dataframe_records": [{"image": image}]},
        lambda image: {"instances": [{"image": image}]},
        lambda image: {"inputs": {"image": [image]}},
        lambda image: {"inputs": ["data:image/jpeg;base64," + image]},
    ],
    ids=["dataframe_split", "dataframe_records", "instances", "inputs", "data URI"],
)
def test_each_key_gets_the_classifiers_own_answer(endpoint, encoded, expected, wrap):
    (answer,) = ask(endpoint, {**wrap(encoded), "params": {"top_k": 3}})
    assert answer["top"] == expected
    assert answer["model"] == {"name": "flowers", "version": "1"}


def test_a_row_that_cannot_be_read_gets_an_error_in_its_place(endpoint, encoded, expected):
    rows = [encoded, "***", base64.b64encode(b"text").decode(), encoded[: len(encoded) // 8 * 4], None, encoded]
    answers = ask(endpoint, {"dataframe_split": {"columns": ["image"], "data": [[row] for row in rows]}})
    codes = [answer["error"]["code"] for answer in answers[1:-1]]
    assert codes == ["not_base64", "unreadable_image", "unreadable_image", "not_base64"]
    assert answers[0]["top"][:3] == answers[-1]["top"][:3] == expected


def test_a_top_k_below_one_is_answered_with_the_range(endpoint, encoded):
    (answer,) = ask(endpoint, {"inputs": [encoded], "params": {"top_k": 0}})
    assert answer["error"] == {"code": "bad_top_k", "message": "top_k must be a whole number from 1 to 10, not 0"}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: {"dataframe_split": {"columns": ["text"], "data": [[text]]}},
        lambda text: {"dataframe_records": [{"text": text}]},
        lambda text: {"instances": [{"text": text}]},
        lambda text: {"inputs": [text]},
    ],
    ids=["dataframe_split", "dataframe_records", "instances", "inputs"],
)
def test_raw_text_is_answered_under_each_key(text_endpoint, reproduced, wrap):
    classifier = Classifier.load(reproduced.folder / "models/reviews/classifier")
    (prediction,) = classifier.predict(["Terrific film!"])
    (answer,) = ask(text_endpoint, wrap("Terrific film!"))
    assert answer["top"] == [pytest.approx(candidate, abs=1e-5) for candidate in prediction.to_json()["top"]]
    assert answer["model"] == {"name": "reviews", "version": "1"}


def test_a_text_that_cannot_be_read_gets_an_error_in_its_place(text_endpoint):
    rows = [["A film."], [""], [7], [None], [{"a": 1}], ["word " * 300_000]]
    answers = ask(text_endpoint, {"dataframe_split": {"columns": ["text"], "data": rows}})
    assert "top" in answers[0]
    codes = [answer["error"]["code"] for answer in answers[1:]]
    assert codes == ["empty_text", "not_a_text", "not_a_text", "not_a_text", "text_too_long"]


def test_the_exported_folder_loads_alone_and_without_torch(reproduced, encoded, expected, tmp_path):
    program = """
import sys, json, mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pandas.DataFrame({"image": [sys.stdin.read()]}), params={"top_k": 3})
import flowerml
heavy = {"torch", "torchvision", "timm", "sklearn", "pydantic_settings", "optuna", "dvc"} & set(sys.modules)
print(json.dumps([answer, flowerml.__file__, sorted(heavy & {"torch", "torchvision", "timm", "optuna", "dvc"})]))
"""
    folder = reproduced.folder / "models/flowers/mlflow"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], input=encoded, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (answer,), package, heavy = json.loads(done.stdout.splitlines()[-1])
    assert answer["top"] == expected
    assert answer["model"] == {"name": "flowers", "version": None}
    assert package.startswith(str(folder))
    assert heavy == []


def test_the_requirements_of_the_model_have_no_torch(reproduced):
    requirements = (reproduced.folder / "models/flowers/mlflow/requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    assert {line.split("==")[0] for line in requirements} == {"mlflow", "numpy", "onnxruntime", "pandas", "pillow"}
