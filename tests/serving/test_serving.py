"""The exported model, as MLflow loads and serves it."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from types import SimpleNamespace

import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flowerml import Classifier
from flowerml.core.errors import InputError
from flowerml.serving.answer import error_json


@pytest.fixture(scope="module")
def expected(reproduced, picture):
    classifier = Classifier.load(reproduced.folder / "models/flowers/classifier")
    (prediction,) = classifier.predict([picture], top_k=3)
    return [pytest.approx(candidate, abs=1e-5) for candidate in prediction.to_json()["top"]]


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
def test_picture_under_each_key(flowers_served, flower, expected, wrap):
    (answer,) = flowers_served.ask({**wrap(flower), "params": {"top_k": 3}}).predictions
    assert answer["top"] == expected
    assert answer["model"] == {"name": "flowers", "version": "1"}


def test_unreadable_picture_gets_error(flowers_served, flower, expected):
    rows = [flower, "***", base64.b64encode(b"text").decode(), flower[: len(flower) // 8 * 4], None, flower]
    reply = flowers_served.ask({"dataframe_split": {"columns": ["image"], "data": [[row] for row in rows]}})
    answers = reply.predictions
    codes = [answer["error"]["code"] for answer in answers[1:-1]]
    assert codes == ["not_base64", "unreadable_image", "unreadable_image", "not_base64"]
    assert answers[0]["top"][:3] == answers[-1]["top"][:3] == expected


def test_top_k_below_one_gets_error(flowers_served, flower):
    (answer,) = flowers_served.ask({"inputs": [flower], "params": {"top_k": 0}}).predictions
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
def test_text_under_each_key(reviews_served, reproduced, wrap):
    classifier = Classifier.load(reproduced.folder / "models/reviews/classifier")
    (prediction,) = classifier.predict(["Terrific film!"])
    (answer,) = reviews_served.ask(wrap("Terrific film!")).predictions
    assert answer["top"] == [pytest.approx(candidate, abs=1e-5) for candidate in prediction.to_json()["top"]]
    assert answer["known"] is prediction.known
    assert answer["out_of_distribution"] == pytest.approx(prediction.out_of_distribution, abs=1e-5)
    assert answer["model"] == {"name": "reviews", "version": "1"}


def test_unreadable_text_gets_error(reviews_served):
    rows = [["A film."], [""], [7], [None], [{"a": 1}], ["word " * 300_000]]
    answers = reviews_served.ask({"dataframe_split": {"columns": ["text"], "data": rows}}).predictions
    assert answers[0]["top"]
    codes = [answer["error"]["code"] for answer in answers[1:]]
    assert codes == ["empty_text", "not_a_text", "not_a_text", "not_a_text", "text_too_long"]


def test_export_loads_alone_without_torch(reproduced, flower, expected, tmp_path):
    program = """
import sys, json, mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pandas.DataFrame({"image": [sys.stdin.read()]}), params={"top_k": 3, "explain": True})
import flowerml
heavy = {"torch", "torchvision", "timm", "sklearn", "pydantic_settings", "optuna", "dvc"} & set(sys.modules)
print(json.dumps([answer, flowerml.__file__, sorted(heavy & {"torch", "torchvision", "timm", "optuna", "dvc"})]))
"""
    folder = reproduced.folder / "models/flowers/mlflow"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], input=flower, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (answer,), package, heavy = json.loads(done.stdout.splitlines()[-1])
    assert answer["top"] == expected
    assert answer["explanation"]["heat_map"]
    assert answer["model"] == {"name": "flowers", "version": None}
    assert package.startswith(str(folder))
    assert heavy == []


def installed(names: Iterable[str]) -> dict[str, Distribution]:
    """Return packages with all their dependencies, as they are installed here."""
    packages: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in packages:
            packages[name] = distribution(name)
            needed = map(Requirement, packages[name].requires or [])
            waiting += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    return packages


def test_environment_is_below_a_gigabyte(reproduced):
    requirements = (reproduced.folder / "models/flowers/mlflow/requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    names = {line.split("==")[0] for line in requirements}
    assert names == {"mlflow", "numpy", "onnxruntime", "pandas", "pillow"}
    packages = installed(names)
    assert not {"torch", "torchvision", "timm", "triton", "optuna", "dvc"} & set(packages)
    assert sum(file.size or 0 for package in packages.values() for file in package.files or []) < 1e9


def test_picture_is_explained(flowers_served, reproduced, picture, flower):
    classifier = Classifier.load(reproduced.folder / "models/flowers/classifier")
    (answer,) = flowers_served.ask({"inputs": [flower], "params": {"explain": True}}).predictions
    explanation = {"kind": "image", **answer["explanation"]}
    assert explanation == {**classifier.explain(picture).to_json(), "words": []}
    (answer,) = flowers_served.ask({"inputs": [flower], "params": {"explain": False}}).predictions
    assert answer["explanation"] == {"label": None, "heat_map": None, "words": []}


def test_text_is_explained(reviews_served, reproduced):
    raw = "<i>Great</i> fun,\n and never dull! 👍"
    classifier = Classifier.load(reproduced.folder / "models/reviews/classifier")
    (answer,) = reviews_served.ask({"inputs": [raw], "params": {"explain": True, "top_k": 1}}).predictions
    explanation = answer["explanation"]
    assert (explanation["heat_map"], explanation["label"]) == (None, answer["top"][0]["label"])
    assert "".join(word["text"] for word in explanation["words"]) == raw
    expected = [word.weight for word in classifier.explain(raw).words]
    assert [word["weight"] for word in explanation["words"]] == pytest.approx(expected, abs=1e-4)


@pytest.fixture
def loaded(reproduced, monkeypatch):
    """Load the model in this process as a server does."""
    from flowerml.serving.pyfunc import TIMEOUT_VARIABLE, ClassifierModel

    def load(*, folder=reproduced.folder / "models/flowers/classifier", seconds: float = 60):
        monkeypatch.setenv(TIMEOUT_VARIABLE, str(seconds))
        model = ClassifierModel()
        model.load_context(SimpleNamespace(artifacts={"classifier": str(folder)}))
        return model

    return load


def test_slow_request_is_answered_in_part(loaded, flower):
    answers = loaded(seconds=0.0001).predict(None, pd.DataFrame({"image": [flower] * 3}))
    assert answers[0]["top"]
    assert [answer["error"]["code"] for answer in answers[1:]] == ["out_of_time"] * 2
    assert answers[1]["error"]["message"] == "only 1 of 3 rows could be answered in time"


def test_bug_is_logged_and_not_sent(loaded, flower, caplog):
    model = loaded()
    model.classifier.names.clear()  # no folder can do this: names are checked when it is loaded
    answers = model.predict(None, pd.DataFrame({"image": [flower, flower]}))
    error = InputError("internal_error", "the server failed; its log says why")
    assert answers == [error_json(error, model.answering.model)] * 2
    assert "KeyError" in caplog.text
