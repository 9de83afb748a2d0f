"""Served models: what an alias points to is loaded, checked, swapped or refused."""

import itertools
import json
import os
import re
import shutil
import threading
import time
from pathlib import Path

import pytest

from flowerml import Classifier
from flowerml.core.errors import ModelError
from flowerml.registry import stored
from flowerml.registry.signature import signature
from flowerml.server.models import Models, public_address
from flowerml.server.scratch import GRACE, Scratch
from tests.support.registered import registry

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def project(addresses, tmp_path_factory):
    """Work in a folder with a registry; `logged` in it is a model as MLflow writes it."""
    from mlflow.models import Model

    folder = tmp_path_factory.mktemp("project")
    with registry(folder):
        from mlflow import MlflowClient

        shutil.copytree(addresses["reviews"], folder / "logged/artifacts/classifier")
        Model(signature=signature("text"), flavors={"python_function": {"loader_module": "x"}}).save(
            folder / "logged/MLmodel"
        )
        body = {"dataframe_split": {"columns": ["text"], "data": [["A good film."]]}}
        (folder / "logged/serving_input_example.json").write_text(json.dumps(body))
        yield Registry(folder, MlflowClient())


class Registry:
    """A registry, and versions of the same model, each with its files."""

    def __init__(self, folder: Path, client) -> None:
        self.folder = folder
        self.client = client

    def name(self) -> str:
        """Return the name of a new registered model."""
        name = f"reviews{next(NUMBERS)}"
        self.client.create_registered_model(name)
        return name

    def version(self, name: str, change=lambda folder: None) -> str:
        """Register a version whose files `change` has changed, and give it the alias."""
        source = self.folder / f"files{next(NUMBERS)}"
        shutil.copytree(self.folder / "logged", source)
        change(source)
        version = self.client.create_model_version(name, str(source)).version
        self.promote(name, version)
        return str(version)

    def promote(self, name: str, version: str) -> None:
        """Move the alias."""
        self.client.set_registered_model_alias(name, "champion", version)


@pytest.fixture
def name(project):
    return project.name()


@pytest.fixture(scope="module")
def steady(project):
    """Yield a served model whose first version is good."""
    name = project.name()
    project.version(name)
    models = Models({"m": f"models:/{name}@champion"})
    models.start()
    yield models.get("m")
    models.stop()


@pytest.fixture
def start():
    """Return a function that starts models, each with an address; they end with the test."""
    started = []

    def start(poll=60.0, wait=False, **addresses):
        models = Models(addresses, poll=poll)
        started.append(models)
        models.start(wait=wait)
        return models

    yield start
    for models in started:
        models.stop()


def cut_graph(folder):
    graph = folder / "artifacts/classifier/network.onnx"
    graph.write_bytes(graph.read_bytes()[:-10])


def other_column(folder):
    (folder / "serving_input_example.json").unlink()
    path = folder / "MLmodel"
    path.write_text(path.read_text().replace('"name": "text"', '"name": "words"', 1))


def store_answers(folder):
    classifier = Classifier.load(folder / "artifacts/classifier")
    stored.write(folder / stored.ARTIFACT, classifier, ["A good film.", ""])


def other_answers(folder):
    store_answers(folder)
    path = folder / stored.ARTIFACT
    path.write_text(re.sub(r'"probability": 0.\d\d', '"probability": 0.01', path.read_text()))


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_moved_alias_and_rollback(project, name, start):
    project.version(name)
    model = start(m=f"models:/{name}@champion").get("m")
    first = model.current
    assert first.model == {"name": name, "version": "1"}
    project.version(name)
    model.look()
    assert model.current.model["version"] == "2"
    project.promote(name, "1")
    model.look()
    assert model.current.model["version"] == "1"
    assert model.current.digest == first.digest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (cut_graph, "ONNX"),
        (lambda folder: (folder / "artifacts/classifier/weights.safetensors").write_bytes(b""), "weights.safetensors"),
        (lambda folder: (folder / "artifacts/classifier/classifier.json").unlink(), "no saved classifier"),
        (lambda folder: (folder / "MLmodel").write_text("signature: {inputs: '[]x'}"), "signature"),
        (lambda folder: (folder / "MLmodel").write_text("a: &a [b, *a]\nsignature: *a"), "signature"),
        (lambda folder: (folder / "serving_input_example.json").write_text('{"inputs": [""]}'), "empty_text"),
        (lambda folder: (folder / "serving_input_example.json").write_text("{}"), "signature"),
        (other_column, "signature refuses an input that its task reads"),
        (lambda folder: (folder / "artifacts/answers.json").write_text("{}"), "answers.json cannot be read"),
        (other_answers, "answered otherwise than when it was registered: expected a probability of 0.01"),
    ],
    ids=[
        "graph",
        "weights",
        "no classifier",
        "signature",
        "cyclic YAML",
        "example's error",
        "example's form",
        "other column",
        "damaged answers",
        "other answers",
    ],
)
def test_broken_version_is_refused(project, steady, change, reason):
    before = steady.current
    version = project.version(steady.registered_name, change)
    steady.look()
    assert steady.current is before
    refusal = steady.status()["refused"][-1]
    assert refusal["version"] == version and reason in refusal["reason"]
    assert "/tmp" not in refusal["reason"] and str(project.folder) not in refusal["reason"]


def test_example_gets_stored_answer(project, name, start):
    project.version(name, store_answers)
    assert start(m=f"models:/{name}@champion").get("m").current.examples == ("A good film.", "")


def test_refused_version_is_retried_when_alias_moves(project, name, start):
    project.version(name)
    model = start(m=f"models:/{name}@champion").get("m")
    before = model.current
    project.version(name, cut_graph)
    model.look()
    model.look()
    assert len(model.status()["refused"]) == 1
    project.promote(name, "1")
    model.look()
    assert model.current is before
    project.promote(name, "2")
    model.look()
    assert len(model.status()["refused"]) == 2 and model.current is before


def test_registry_that_is_gone_changes_nothing(project, name, start):
    project.version(name)
    model = start(m=f"models:/{name}@champion").get("m")
    project.client.delete_registered_model_alias(name, "champion")
    with pytest.raises(ModelError, match="no version has this alias"):
        model.look()
    assert model.current is not None
    database = project.folder / "mlflow.db"
    database.rename(project.folder / "gone.db")
    try:
        with pytest.raises(ModelError, match="no MLflow registry"):
            model.look()
        assert "no MLflow registry" in model.status()["registry_error"]
        assert str(project.folder) not in model.status()["registry_error"]
    finally:
        (project.folder / "gone.db").rename(database)
    project.promote(name, "1")
    model.look()
    assert model.status()["registry_error"] is None


def test_files_stay_while_version_is_in_use(project, name, start):
    project.version(name)
    model = start(m=f"models:/{name}@champion").get("m")
    in_flight = model.current
    folder = in_flight.classifier.folder
    project.version(name)
    model.look()
    assert folder.is_dir()
    assert in_flight.classifier.predict(["A good film."])
    del in_flight
    until(lambda: not folder.exists())
    assert model.current.classifier.folder.is_dir()


def test_other_version_of_same_number(project, name, start):
    project.version(name)
    model = start(m=f"models:/{name}@champion").get("m")
    before = model.current
    project.client.delete_registered_model(name)
    project.client.create_registered_model(name)
    assert project.version(name) == "1"
    model.look()
    assert model.current is not before


def test_folder_that_is_replaced(project, start, tmp_path):
    folder = tmp_path / "reviews"
    shutil.copytree(project.folder / "logged/artifacts/classifier", folder)
    model = start(m=str(folder)).get("m")
    before = model.current
    assert before.model == {"name": "reviews", "version": None} and model.status()["address"] == "reviews"
    graph = (folder / "network.onnx").read_bytes()
    (folder / "network.onnx").write_bytes(graph[: len(graph) // 2])  # a copy that is not complete yet
    model.look()
    assert model.current is before and len(model.status()["refused"]) == 1
    (folder / "network.onnx").write_bytes(graph)
    model.look()
    assert model.current is not before


def test_start_fails_in_one_line(project, name, start):
    with pytest.raises(ModelError, match=rf"no registered model 'review'; known are .*{name}"):
        start(m="models:/review@champion")
    with pytest.raises(ModelError, match="no version has this alias"):
        start(m=f"models:/{name}@champion")
    project.version(name, cut_graph)
    with pytest.raises(ModelError, match=f"models:/{name}@champion: .*ONNX"):
        start(m=f"models:/{name}@champion")


def test_waiting_start_and_watching(project, name, start):
    models = start(m=f"models:/{name}@champion", poll=0.05, wait=True)
    model = models.get("m")
    until(lambda: model.status()["registry_error"])
    assert not models.ready
    project.version(name)
    until(lambda: models.ready)
    project.version(name)
    until(lambda: model.current.model["version"] == "2")


def test_watching_ends_with_stop(project, name, start):
    project.version(name)
    models = start(ending=f"models:/{name}@champion")
    watching = [thread for thread in threading.enumerate() if thread.name == "watch ending"]
    models.stop()
    assert watching and not any(thread.is_alive() for thread in watching)


def test_downloads_of_killed_process_are_removed():
    scratch, killed = Scratch(), Scratch()
    killed._lock.release()  # as the system does
    for folder in (scratch.path, killed.path):
        os.utime(folder, times=(time.time() - 2 * GRACE,) * 2)
    Scratch().close()
    assert scratch.path.exists() and not killed.path.exists()
    scratch.close()
    assert not scratch.path.exists()


def test_address_without_password():
    assert public_address("models://me:secret@databricks/flowers/1") == "models://databricks/flowers/1"
