"""`flowerml compare`, on small classifiers of texts with random weights."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

from flowerml import Classifier
from flowerml.cli.app import app
from flowerml.data import examples as tables
from flowerml.data.examples import Example, Examples
from flowerml.registry.repeats import open_side
from flowerml.tasks import text
from flowerml.tasks.text.networks.lstm import Lstm

STEPS = {"strip_html": True, "lower_case": True, "letters_and_digits": True, "stop_words": "drop", "stem": True}
SIZES = {"embedding_dim": 4, "hidden_dim": 4, "layers": 1, "bidirectional": False, "pooling": "mean_max"}
SEEDS = range(6)


def texts(split, count):
    words = ("good", "dull", "odd", "long")
    raws = [f"A {words[number % 4]} film, the {split} one {words[number % 3]} {number}." for number in range(count)]
    return [Example(f"{split}{number}", split, ("neg", "pos")[number % 2], raw) for number, raw in enumerate(raws)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Write an example table, and classifiers 0 to 5 that say they were trained on it, with other seeds."""
    folder = tmp_path_factory.mktemp("saved")
    table = folder / "data/films/examples.parquet"
    table.parent.mkdir(parents=True)
    examples = [*texts("train", 24), *texts("valid", 8), *texts("test", 40)]
    tables.write(table, examples, raw=str)
    section = SimpleNamespace(**STEPS, vocab_size=40, max_length=60, max_words=90, characters=0, backbone=None)
    encoder = text.Encoder.fit(examples[:24], section, SimpleNamespace(characters=1000))
    for seed in SEEDS:
        save(folder / "models" / str(seed), encoder, seed, digest=Examples(table).digest())
    save(folder / "models/other", encoder, 9, digest="0" * 64, classes=("bad", "pos"))
    save(folder / "models/elsewhere", encoder, 10, digest="0" * 64)
    return folder


def save(folder, encoder, seed, *, digest, classes=("neg", "pos")):
    torch.manual_seed(seed)
    Classifier.save(
        folder,
        kind="text",
        encoder=encoder,
        network=Lstm(encoder.preprocessing.codes, 2, **SIZES, dropout=0.0),
        classes=classes,
        names={},
        parameters={"train.seed": seed, "train.epochs": 3, "data.source": "films.csv"},
        trained={"pipeline": "films", "data_digest": digest},
    )


@pytest.fixture
def folder(saved, tmp_path, monkeypatch):
    """Return a copy to work in: classifier 0 with the repeats 1 and 2, 3 with 4 and 5, and both sets alone."""
    shutil.copytree(saved / "data", tmp_path / "data")
    for name, numbers in (("a", (0, 1, 2)), ("b", (3, 4, 5))):
        shutil.copytree(saved / "models" / str(numbers[0]), tmp_path / name / "classifier")
        for place, number in enumerate(numbers, start=1):
            shutil.copytree(saved / "models" / str(number), tmp_path / name / "repeats" / str(place))
    for name in ("other", "elsewhere"):
        shutil.copytree(saved / "models" / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    return tmp_path


def compare(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def compared(*arguments):
    result = compare(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_test_split_of_the_data_trained_on_is_found(folder):
    report = compared("a", "b", "--alone")
    assert (report["examples"], report["split"], report["scored"]) == (40, "test", True)
    assert (report["a"]["classifiers"], report["a"]["accuracy_std"]) == (1, None)
    limits = report["accuracy"]
    assert limits["low"] < limits["difference"] < limits["high"] and limits["standard_error_of_seeds"] == 0


def test_numbers_are_those_of_evaluate(folder):
    report = compared("a/classifier", "b", "data/films/examples.parquet", "--alone")
    for side in "ab":
        result = CliRunner().invoke(app, ["evaluate", f"{side}/classifier", "data/films/examples.parquet", "--json"])
        metrics = json.loads(result.stdout)
        assert report[side]["accuracy"] == pytest.approx(metrics["accuracy"])
        assert report[side]["loss"] == pytest.approx(metrics["loss"], abs=1e-5)


def test_repeats_beside_a_classifier_stand_for_it(folder):
    reports = [compared(first, "b/repeats") for first in ("a", "a/classifier", "a/repeats")]
    assert [report["a"]["classifiers"] for report in reports] == [3, 3, 3]
    assert reports[0]["accuracy"] == reports[1]["accuracy"] == reports[2]["accuracy"]
    assert compared("a/repeats/2", "b")["a"]["classifiers"] == 1
    printed = compare("a", "b").stdout
    assert "3 repeats" in printed and "other seeds by" in printed and " ± " in printed


def test_repeats_of_several_trainings_are_refused(folder):
    path = Path("a/repeats/2/classifier.json")
    description = json.loads(path.read_text())
    description["parameters"]["train.epochs"] = 4
    path.write_text(json.dumps(description))
    result = compare("a", "b")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "found another train.epochs" in result.stderr
    with open_side("a", alone=True) as side:
        assert len(side.classifiers) == 1


def test_examples_trained_on_are_left_out(folder):
    report = compared("a", "b", "--split", "all", "--alone")
    assert (report["examples"], report["left_out"]) == (40, {"trained_on": 32, "unreadable": 0})
    result = compare("a", "b", "--split", "train", "--alone")
    assert result.exit_code == 1 and "neither classifier was trained or chosen on" in result.stderr


def test_unknown_training_data_are_named(folder):
    refused = compare("a", "elsewhere", "--alone")
    assert refused.exit_code == 1 and "were trained on different data; name the test examples" in refused.stderr
    result = compare("a", "elsewhere", "data/films/examples.parquet", "--alone")
    assert result.exit_code == 0, result.output
    assert "note: the examples that B was trained on are not here" in result.stderr


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("a/classifier", "have a network in common"),
        ("a/repeats/1", "have a network in common"),
        ("other", "only a has neg; only other has bad"),
        ("nowhere", "nowhere: does not exist"),
        ("http://127.0.0.1:1", "expected a saved classifier, found a URL"),
    ],
)
def test_what_cannot_be_compared_is_one_line(folder, second, message):
    result = compare("a", second)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert message in result.stderr


@pytest.fixture
def registered(folder, monkeypatch):
    """Register a and b as versions 1 and 2 of films, with their logged predictions on a test set of 200 examples."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("films", artifact_location=str(folder / "artifacts"))
    client.create_registered_model("films")
    for model, mistakes in (("a", 10), ("b", 50)):
        run = client.create_run(experiment).info.run_id
        table = pd.DataFrame({"id": [f"{number}.txt" for number in range(200)], "actual": "pos", "predicted": "pos"})
        table.loc[: mistakes - 1, "predicted"] = "neg"
        table.assign(probability=0.8, probability_of_actual=0.8).to_csv(folder / "predictions.csv", index=False)
        client.log_artifact(run, str(folder / "predictions.csv"), "reports")
        version = client.create_model_version("films", str(folder / model / "classifier"), run).version
        client.set_model_version_tag("films", version, "test_digest", "the same")
    client.set_registered_model_alias("films", "champion", "2")
    return client


def test_registered_versions_are_compared_by_their_logged_predictions(registered):
    report = compared("models:/films/1", "models:/films@champion")
    assert (report["examples"], report["scored"], report["verdict"]) == (200, False, "better")
    assert report["accuracy"]["difference"] == pytest.approx(0.2)
    assert "by their logged predictions" in compare("models:/films/1", "models:/films/2").stdout


def test_versions_on_other_test_sets_are_scored(registered):
    registered.set_model_version_tag("films", "2", "test_digest", "another")
    report = compared("models:/films/1", "models:/films/2")
    assert (report["examples"], report["scored"]) == (40, True)
    nobody = compare("models:/films/1", "models:/films@nobody")
    assert (nobody.exit_code, nobody.stderr.count("\n")) == (1, 1)


def test_fail_on_sets_the_exit_code(folder):
    verdict = compared("a", "b", "--alone")["verdict"]
    assert compare("a", "b", "--alone", "--fail-on", "unclear", "--fail-on", "worse").exit_code == (verdict != "better")
    assert compare("a", "b", "--fail-on", "better").exit_code == 2


def test_linked_repeats_are_found(folder):
    shutil.move(folder / "a/repeats", folder / "elsewhere_kept")
    (folder / "a/repeats").symlink_to(folder / "elsewhere_kept")
    with open_side("a/classifier", alone=False) as beside, open_side("a/repeats", alone=False) as named:
        assert len(beside.classifiers) == len(named.classifiers) == 3


def test_repeats_linked_to_themselves_are_none(folder):
    shutil.rmtree(folder / "a/repeats")
    (folder / "a/repeats").symlink_to(folder / "a/repeats")
    with open_side("a/classifier", alone=False) as side:
        assert len(side.classifiers) == 1
