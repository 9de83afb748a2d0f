"""A champion that was measured on another test set: its classifier is loaded and scored on the new one."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from flowerml import Classifier
from flowerml.cli.app import app
from flowerml.config.params import Gate
from flowerml.data import examples as tables
from flowerml.data.examples import Example, Examples
from flowerml.registry import promotion
from flowerml.registry.candidates import candidate_of
from flowerml.tracking import relocation
from tests.support.project import REPOSITORY

SAVED = REPOSITORY / "tests/classifier/saved_by_0_1_0"  # tells neg from pos
LIMITS = Gate(margin=0.02, max_recall_drop=0.2, max_ece=None, max_bytes=None)
TEXTS = [f"{word} film number {number}" for number in range(20) for word in ("A wonderful", "A boring", "An odd")]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """Return an empty database: MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(empty, tmp_path, monkeypatch):
    """Return a client of an empty registry, which is that of the folder the test runs in."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty, tmp_path / "mlflow.db")
    relocation.mend(tmp_path / "mlflow.db")  # as the first command does, which says so in a line
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_experiment("scored", artifact_location=str(tmp_path / "artifacts"))
    client.create_registered_model("films")
    return client


@pytest.fixture
def test_set(tmp_path):
    """Return examples, a quarter of whose labels are not what the saved classifier says, and the answers to them."""
    predictions = Classifier.load(SAVED).predict(TEXTS, top_k=1)
    other = {"neg": "pos", "pos": "neg"}
    path = tmp_path / "data/films/examples.parquet"
    rows = []
    for number, (text, prediction) in enumerate(zip(TEXTS, predictions, strict=True)):
        said = prediction.top[0].label
        rows.append(Example(f"{number}.txt", "test", other[said] if number % 4 == 0 else said, text))
    path.parent.mkdir(parents=True)
    tables.write(path, rows, raw=str)
    return Examples(path)


def register(client, *, tags, answers=None, classifier=SAVED, params=None):
    """Register a version with these files, and return its number."""
    run = client.create_run(client.get_experiment_by_name("scored").experiment_id)
    for name, value in (params or {}).items():
        client.log_param(run.info.run_id, name, value)
    if classifier:
        client.log_artifacts(run.info.run_id, str(classifier), "model/artifacts/classifier")
    if answers is not None:
        answers.to_csv("predictions.csv", index=False)
        client.log_artifact(run.info.run_id, "predictions.csv", "reports")
    version = client.create_model_version("films", f"{run.info.artifact_uri}/model", run.info.run_id)
    for key, value in tags.items():
        client.set_model_version_tag("films", version.version, key, str(value))
    return str(version.version)


def tags(accuracy, digest, *, classes=("neg", "pos"), source="their/films"):
    listed = {"accuracy": accuracy, "test_digest": digest, "classes": json.dumps(classes), "pipeline": "films"}
    return listed | ({"data_source": source} if source else {})


def answers_of(test_set, *, wrong):
    """Return answers to a test set of which every `wrong`-th is a mistake."""
    import pandas as pd

    rows = [
        (
            example.id,
            example.label,
            {"neg": "pos", "pos": "neg"}[example.label] if number % wrong == 0 else example.label,
        )
        for number, example in enumerate(test_set.of("test"))
    ]
    return pd.DataFrame(rows, columns=["id", "actual", "predicted"])


def submit_newcomer(client, test_set, *, wrong, test=True, **fields):
    """Submit a version that is wrong in one of so many answers to the new test set."""
    answers = answers_of(test_set, wrong=wrong)
    accuracy = float((answers["actual"] == answers["predicted"]).mean())
    number = register(client, tags=tags(accuracy, test_set.digest("test"), **fields), answers=answers)
    new = candidate_of(client, client.get_model_version("films", number))
    return promotion.submit(client, "films", "champion", new, LIMITS, test=test_set if test else None)


def crown(client, **fields):
    client.set_registered_model_alias("films", "champion", register(client, **fields))


def champion(client):
    return str(client.get_model_version_by_alias("films", "champion").version)


def test_worse_one_on_another_test_set(client, test_set):
    crown(client, tags=tags(0.2, "another"))  # 0.75 on the new one
    decision = submit_newcomer(client, test_set, wrong=2)
    assert not decision.promoted and champion(client) == "1"
    assert decision.reason.startswith(
        "different test set from version 1, which was scored on the new one: "
        "worse: test accuracy 0.5000, version 1 has 0.7500; difference -0.2500 "
    )
    assert client.get_model_version("films", "2").tags["gate.accuracy"] == "failed"


def test_better_one_on_another_test_set(client, test_set):
    crown(client, tags=tags(0.99, "another"))
    decision = submit_newcomer(client, test_set, wrong=8)
    assert decision.promoted and champion(client) == "2"
    assert "which was scored on the new one: better: " in decision.reason


def test_champion_registered_by_hand_is_scored(client, test_set):
    crown(client, tags={}, params={"data.source": "their/films"})
    assert not submit_newcomer(client, test_set, wrong=2).promoted and champion(client) == "1"
    assert submit_newcomer(client, test_set, wrong=8).promoted and champion(client) == "3"


def test_other_classes_need_force(client, test_set):
    crown(client, tags=tags(0.2, "another", classes=("bad", "good")))
    decision = submit_newcomer(client, test_set, wrong=8)
    assert not decision.promoted and champion(client) == "1"
    assert decision.reason == (
        "different classes from version 1: not comparable; `flowerml promote films 2 --force` promotes it anyway"
    )
    assert CliRunner().invoke(app, ["promote", "films", "2", "--force"]).exit_code == 0
    assert champion(client) == "2"


@pytest.mark.parametrize("damage", ["gone", "graph", "other kind"])
def test_champion_that_cannot_be_scored(client, test_set, tmp_path, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(SAVED, folder)
    (folder / "network.onnx").write_bytes(b"")
    crown(client, tags=tags(0.2, "another"), classifier=folder if damage == "graph" else SAVED)
    if damage == "gone":
        shutil.rmtree(tmp_path / "artifacts")
    if damage == "other kind":
        tables.write(test_set.path, [Example("1", "test", "pos", b"picture")], raw=bytes)
    decision = submit_newcomer(client, test_set, wrong=8)
    assert not decision.promoted and champion(client) == "1"
    assert "version 1, which could not be scored on the new one: " in decision.reason
    assert decision.reason.endswith("; `flowerml promote films 2 --force` promotes it anyway")


@pytest.mark.parametrize("known_by", ["tag", "run", "classifier"])
def test_champion_on_the_sample_yields(client, test_set, known_by):
    listed = tags(0.99, "another", source="sample" if known_by == "tag" else None)
    crown(client, tags=listed, params={"data.source": "sample"} if known_by == "run" else None)
    decision = submit_newcomer(client, test_set, wrong=2)
    assert decision.promoted and champion(client) == "2"


def test_sample_against_real_data(client, test_set):
    crown(client, tags=tags(0.2, "another"))
    decision = submit_newcomer(client, test_set, wrong=8, source="sample")
    assert not decision.promoted and champion(client) == "1" and not decision.comparable


def test_promote_scores_the_champion(client, test_set):
    crown(client, tags=tags(0.99, "another"))
    submit_newcomer(client, test_set, wrong=8, test=False)
    assert champion(client) == "1"
    moved = Path(test_set.path).rename("elsewhere.parquet")
    refused = CliRunner().invoke(app, ["promote", "films", "2"])
    assert refused.exit_code == 1 and refused.stderr.count("\n") == 1 and champion(client) == "1"
    assert "the test examples of version 2 are not in this folder; repeat it in its project" in refused.stderr
    moved.rename(test_set.path)
    assert CliRunner().invoke(app, ["promote", "films", "2"]).exit_code == 0
    assert champion(client) == "2"


@pytest.mark.parametrize(("takes", "source"), [("none", "sample"), ("none", "a/b"), ("sample", "a/b")])
def test_alias_may_be_left_alone(client, test_set, takes, source):
    crown(client, tags=tags(0.2, test_set.digest("test"), source=source))
    number = register(client, tags=tags(0.9, test_set.digest("test")))
    new = candidate_of(client, client.get_model_version("films", number))
    decision = promotion.submit(client, "films", "champion", new, LIMITS, takes=takes)
    assert not decision.promoted and champion(client) == "1"
    assert "`flowerml promote films 2` promotes it" in decision.reason
    assert client.get_model_version("films", "2").tags["verdict"] == "not promoted"
