"""All entrances together: whichever is used, an input gets the classifier's own answer."""

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
from tests.support.browser import in_browser
from tests.support.serving import Served
from tests.web.test_web import ask_about, opened, running, shown_classes

TOLERANCE = 1e-5
REVIEW = "Terrific film! I would not call it <b>dull</b>, and the naïve ending is 10/10."
PYFUNC_PROGRAM = """
import json, sys, mlflow, pandas
request = json.load(sys.stdin)
print(json.dumps(mlflow.pyfunc.load_model(request["model"]).predict(pandas.DataFrame(request["rows"]))))
"""


@dataclass(frozen=True)
class Subject:
    """A trained classifier, its server and an input."""

    name: str
    column: str
    raw: Any
    values: dict[str, Any]
    """The input as an endpoint takes it, by encoding."""
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


@pytest.fixture(params=["flowers", pytest.param("reviews", marks=pytest.mark.extended)])
def subject(request) -> Subject:
    return request.getfixturevalue(request.param)


def bodies(column: str, value: Any) -> dict[str, dict[str, Any]]:
    """Return a request for one input under each key that MLflow knows."""
    return {
        "dataframe_split": {"dataframe_split": {"columns": [column], "data": [[value]]}},
        "dataframe_records": {"dataframe_records": [{column: value}]},
        "instances": {"instances": [{column: value}]},
        "inputs": {"inputs": {column: [value]}},
    }


def ask_command_line(subject: Subject, *arguments: str) -> Any:
    command = [sys.executable, "-m", "flowerml", "predict", *arguments, "--json"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{subject.folder}/mlflow.db"}
    done = subprocess.run(
        command,
        cwd=subject.folder,
        env=environment,
        input=subject.path.read_bytes(),
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


def ask_pyfunc(subject: Subject) -> Any:
    model = str(subject.folder / "models" / subject.name / "mlflow")
    request = {"model": model, "rows": {subject.column: list(subject.values.values())[:1]}}
    done = subprocess.run(
        [sys.executable, "-c", PYFUNC_PROGRAM], input=json.dumps(request).encode(), capture_output=True
    )
    return json.loads(done.stdout.splitlines()[-1])[0]


def answers(subject: Subject) -> Iterator[tuple[str, Any]]:
    """Yield (entrance, answer) for every entrance but the page."""
    classifier = f"models/{subject.name}/classifier"
    yield "command line", ask_command_line(subject, str(subject.path), "--model", classifier)
    yield "command line, from stdin", ask_command_line(subject, "-", "--model", classifier)
    yield (
        "command line, registered",
        ask_command_line(subject, str(subject.path), "--model", f"models:/{subject.name}/1"),
    )
    yield "pyfunc", ask_pyfunc(subject)
    for encoding, value in subject.values.items():
        for key, body in bodies(subject.column, value).items():
            (answer,) = subject.served.ask(body).predictions
            yield f"{key}, {encoding}", answer


def test_entrances_give_one_answer(subject):
    (own,) = Classifier.load(subject.folder / "models" / subject.name / "classifier").predict([subject.raw])
    expected = [pytest.approx(candidate, abs=TOLERANCE) for candidate in own.to_json()["top"]]
    tops = {entrance: answer.get("top") for entrance, answer in answers(subject)}
    assert len(expected) > 1
    assert tops == dict.fromkeys(tops, expected)


@in_browser
def test_page_shows_served_answers(browser, flowers, reviews, tmp_path):
    endpoints = [f"image=http://127.0.0.1:{flowers.served.port}", f"text=http://127.0.0.1:{reviews.served.port}"]
    with (
        running(tmp_path, models=[], endpoints=endpoints) as page_address,
        opened(browser, page_address.url) as page,
    ):
        page.set_input_files("input[type=file]", flowers.path)
        assert shown_classes(page) == as_shown(flowers)
        ask_about(page, reviews.raw)
        assert shown_classes(page) == as_shown(reviews)


def as_shown(subject: Subject) -> dict[str, Any]:
    """Return the classifier's own answer, with the tolerance of the page's tenths of a percent."""
    (own,) = Classifier.load(subject.folder / "models" / subject.name / "classifier").predict([subject.raw])
    return {best.name: pytest.approx(best.probability, abs=0.0005 + TOLERANCE) for best in own.top}
