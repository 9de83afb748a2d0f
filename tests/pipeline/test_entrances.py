"""All doors together: whichever is used, the same input gets the classifier's own answer."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowerml import Classifier
from tests.support.serving import Served
from tests.web.test_web import CHROMIUM, ask_about, in_browser, opened, running, shown_classes

APART = 1e-5
REVIEW = "Terrific film! I would not call it <b>dull</b>, and the naïve ending is 10/10."
IN_MLFLOW = """
import json, sys, mlflow, pandas
asked = json.load(sys.stdin)
print(json.dumps(mlflow.pyfunc.load_model(asked["model"]).predict(pandas.DataFrame(asked["rows"]))))
"""


@dataclass(frozen=True)
class Subject:
    """A trained classifier, an input, and all that can be asked about it."""

    name: str
    column: str
    raw: Any
    values: dict[str, Any]
    """The input as an endpoint takes it, by the name of the encoding."""
    path: Path
    folder: Path
    served: Served


@pytest.fixture
def flowers(reproduced, flowers_served, picture, tmp_path) -> Subject:
    (path := tmp_path / "picture.jpg").write_bytes(picture)
    text = base64.b64encode(picture).decode()
    values = {"base64": text, "data URI": f"data:image/jpeg;base64,{text}", "list of bytes": list(picture)}
    return Subject("flowers", "image", picture, values, path, reproduced.folder, flowers_served)


@pytest.fixture
def reviews(reproduced, reviews_served, tmp_path) -> Subject:
    (path := tmp_path / "review.txt").write_text(REVIEW, encoding="utf-8")
    return Subject("reviews", "text", REVIEW, {"text": REVIEW}, path, reproduced.folder, reviews_served)


@pytest.fixture(params=["flowers", "reviews"])
def subject(request) -> Subject:
    return request.getfixturevalue(request.param)


def bodies(column: str, value: Any) -> dict[str, dict[str, Any]]:
    """A request with one input under each key that MLflow knows."""
    return {
        "dataframe_split": {"dataframe_split": {"columns": [column], "data": [[value]]}},
        "dataframe_records": {"dataframe_records": [{column: value}]},
        "instances": {"instances": [{column: value}]},
        "inputs": {"inputs": {column: [value]}},
    }


def in_command_line(subject: Subject, *arguments: str) -> Any:
    command = [sys.executable, "-m", "flowerml", "predict", *arguments, "--json"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{subject.folder}/mlflow.db"}
    asked = {"input": subject.path.read_bytes(), "capture_output": True, "check": True}
    done = subprocess.run(command, cwd=subject.folder, env=environment, **asked)
    return json.loads(done.stdout)


def in_mlflow(subject: Subject) -> Any:
    model = str(subject.folder / "models" / subject.name / "mlflow")
    asked = {"model": model, "rows": {subject.column: list(subject.values.values())[:1]}}
    done = subprocess.run([sys.executable, "-c", IN_MLFLOW], input=json.dumps(asked).encode(), capture_output=True)
    return json.loads(done.stdout.splitlines()[-1])[0]


def every_door(subject: Subject) -> Iterator[tuple[str, Any]]:
    """The answer at each door but the page, by its name."""
    classifier = f"models/{subject.name}/classifier"
    yield "command line", in_command_line(subject, str(subject.path), "--model", classifier)
    yield "command line, from stdin", in_command_line(subject, "-", "--model", classifier)
    yield (
        "command line, registered",
        in_command_line(subject, str(subject.path), "--model", f"models:/{subject.name}/1"),
    )
    yield "pyfunc", in_mlflow(subject)
    for encoding, value in subject.values.items():
        for key, body in bodies(subject.column, value).items():
            (answer,) = subject.served.ask(body).predictions
            yield f"{key}, {encoding}", answer


def test_every_door_gives_the_classifiers_own_answer(subject):
    (own,) = Classifier.load(subject.folder / "models" / subject.name / "classifier").predict([subject.raw])
    expected = [pytest.approx(candidate, abs=APART) for candidate in own.to_json()["top"]]
    found = {door: answer.get("top") for door, answer in every_door(subject)}
    assert len(expected) > 1
    assert found == dict.fromkeys(found, expected)


@in_browser
def test_the_page_shows_the_answers_of_the_served_models(flowers, reviews, tmp_path):
    from playwright.sync_api import sync_playwright

    endpoints = [f"image=http://127.0.0.1:{flowers.served.port}", f"text=http://127.0.0.1:{reviews.served.port}"]
    with (
        running(tmp_path, models=[], endpoints=endpoints) as address,
        sync_playwright() as playwright,
        opened(playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]), address.url) as page,
    ):
        page.set_input_files("input[type=file]", flowers.path)
        assert shown_classes(page) == as_shown(flowers)
        ask_about(page, reviews.raw)
        assert shown_classes(page) == as_shown(reviews)


def as_shown(subject: Subject) -> dict[str, Any]:
    """The classifier's own answer, as exact as the page's tenths of a percent."""
    (own,) = Classifier.load(subject.folder / "models" / subject.name / "classifier").predict([subject.raw])
    return {one.name: pytest.approx(one.probability, abs=0.0005 + APART) for one in own.top}
