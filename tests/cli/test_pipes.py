"""No command waits for a pipe that was put where it expects a file."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.registry.locate import default_models
from tests.classifier.test_old_classifiers import SAVED

SECONDS = 20  # libraries are imported meanwhile
WORDS = (("good", "pos"), ("bad", "neg"))
REVIEWS = "".join(f"{number},{word} film {number},{label}\n" for number in range(6) for word, label in WORDS)


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Iterator[Path]:
    """Run in a folder with a pipe, a table and a classifier; what waits too long fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name in ("pipe", "pipe.csv", "pipe.parquet", "pipe.zip", "pipe.tar.gz", "examples.parquet"):
        os.mkfifo(name)
    Path("reviews.csv").write_text(f"id,text,label\n{REVIEWS}")
    shutil.copytree(SAVED, "models/saved/classifier")
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("a fine film")
    os.mkfifo("texts/b.txt")

    def fail(*_: object) -> None:
        raise AssertionError("it waits for a pipe")

    former = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


def run(*arguments: str):
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "pipe"),
        ("check", "pipe.csv"),
        ("check", "pipe.zip"),
        ("check", "pipe.tar.gz"),
        ("check", "examples.parquet"),
        ("check", "reviews.csv", "--category-names", "pipe"),
        ("check", "reviews.csv", "-S", "data.split.table=pipe"),
        ("train", "reviews.csv", "--from", "pipe"),
        ("evaluate", "models/saved", "pipe.parquet"),
        ("evaluate", "models/saved", "reviews.csv", "--category-names", "pipe"),
        ("predict", "a film", "--model", "models/saved", "--category-names", "pipe"),
        ("predict", "a film", "--model", "pipe"),
        ("predict", "pipe.csv", "--model", "models/saved"),
        ("info", "pipe"),
    ],
)
def test_pipe_is_refused(arguments):
    result = run(*arguments)
    assert result.exit_code == 1
    *_, last = result.stderr.splitlines()
    assert last.startswith("error: ") and "pipe" in last and "bug" not in last, result.stderr


def test_pipe_in_a_folder_is_named():
    result = run("predict", "texts", "--model", "models/saved", "--json")
    assert [json.loads(line)["input"] for line in result.stdout.splitlines()] == ["texts/a.txt"]
    assert "texts/b.txt: a pipe, socket or device" in result.stderr or "1 a pipe" in result.stderr, result.stderr


def test_pipe_among_the_models():
    Path("models/other/classifier").mkdir(parents=True)
    os.mkfifo("models/other/classifier/classifier.json")
    assert "models/saved/classifier" in default_models()


@pytest.mark.parametrize("description", ["[" * 100_000, "null", '{"task": 3}', "{"])
def test_damaged_model_among_the_models(description):
    Path("models/saved/classifier/classifier.json").write_text(description)
    assert default_models() == ["models/saved/classifier"]
