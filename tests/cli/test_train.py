"""`flowerml train`, on small data of every layout."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from flowerml import Classifier
from flowerml.cli.app import app
from flowerml.config import params
from flowerml.config.defaults import SHIPPED_PARAMS, defaults
from flowerml.config.dotted import flatten, set_by_dotted_name
from flowerml.core.errors import ParamsError
from flowerml.tasks.pipelines import checked_pipeline
from flowerml.tasks.registry import TASKS
from tests.support.recorded_runs import key_of

COLOURS = {"blue": (30, 60, 200), "red": (200, 40, 30)}
GOOD, BAD = "good great fine lovely", "bad awful poor dreadful"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Return an MLflow database without runs; creating one takes seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, database):
    """Return a folder for commands to run in: no project, with a database."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(database, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


@pytest.fixture
def pictures(folder):
    """Write twelve pictures of each of two colours, one folder per class."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / "colours" / name).mkdir(parents=True)
        for number in range(12):
            pixels = (np.array(colour) + rng.normal(0, 20, (64, 64, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "colours" / name / f"{number}.png")
    return Path("colours")


@pytest.fixture
def reviews(folder):
    """Write sixty short reviews in a table."""
    rng = np.random.default_rng(0)
    words = {5: GOOD.split(), 1: BAD.split()}
    rows = [f"{' '.join(rng.choice(words[stars], 8))} film,{stars}" for stars in words for _ in range(30)]
    (folder / "reviews.csv").write_text("\n".join(["review,stars", *rows]))
    return Path("reviews.csv")


@pytest.fixture
def first(reviews):
    """Train a classifier of the reviews, in the folder `first`."""
    train(reviews, *LSTM, "--save-dir", "first")
    return Path("first")


TABLE = ("--set", "data.text_column=review", "-S", "data.label_column=stars")
LSTM = (*TABLE, "--network", "lstm", "--epochs", "3", "--set", "train.hidden_dim=8", "--learning-rate", "0.02")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(*arguments):
    result = run("train", *arguments)
    assert result.exit_code == 0, result.output
    return result


def runs(name):
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(name)
    return {key_of(run): run for run in client.search_runs([experiment.experiment_id])}


def test_pictures_to_classifier(pictures):
    Path("names.json").write_text('{"red": "scarlet", "blue": "navy"}')
    course = ("--hidden_units", 64, "--learning_rate", "0.01", "--arch", "tf_efficientnet_lite0")
    result = train(pictures, "--epochs", 12, *course, "--category_names", "names.json")
    classifier = Classifier.load("models/colours/classifier")
    assert classifier.kind == "image" and classifier.classes == ("blue", "red")
    assert classifier.description["parameters"]["train.hidden_units"] == [64]
    assert f"flowerml predict picture.jpg --model {classifier.folder}" in result.stdout
    assert sum(line.startswith("epoch ") for line in result.stderr.splitlines()) == 12
    assert "--preset balanced also trains the last blocks" in result.stderr
    report = Path("models/colours/report")
    assert f"report:     {report}/report.html\ncurves:     {report}/curves.png\n" in result.stdout
    assert json.loads((report / "metrics.json").read_text())["accuracy"] == 1
    assert (report / "report.html").is_file() and Image.open(report / "curves.png").format == "PNG"
    recorded = runs("colours")
    assert set(recorded) == {"search", "trial 0", "evaluate"}
    assert recorded["evaluate"].data.metrics["accuracy"] == 1
    assert recorded["search"].data.params["train.learning_rate"] == "0.01"
    evaluated = json.loads(run("evaluate", "models/colours", pictures.resolve(), "--json").stdout)
    assert (evaluated["split"], evaluated["examples"]) == ("test", 4)  # its own test split: 2 of the 12 of each class
    prediction = run("predict", pictures / "red/0.png", "--json")
    assert json.loads(prediction.stdout)["top"][0]["name"] == "scarlet"


def test_report_replaces_no_other_contents(pictures):
    Path("trained-report").mkdir()
    Path("trained-report/thesis.tex").touch()
    result = run("train", pictures, "--save-dir", "trained")
    assert result.exit_code == 1 and "trained-report: has other contents" in result.stderr
    assert not Path("trained").exists()


def test_preset_is_plain_parameters(pictures):
    result = train(pictures, "--preset", "fast", "--epochs", 2)
    parameters = Classifier.load("models/colours/classifier").description["parameters"]
    lines = result.stderr.splitlines()
    start = lines.index("preset fast, as parameters:")
    assert "    trainable_blocks: 0   # frozen features, computed once" in lines[start:]
    assert "    epochs: 2   # given" in lines[start:]
    assert (parameters["encode.trainable_blocks"], parameters["train.epochs"]) == (0, 2)
    assert "--preset balanced also" not in result.stderr


@pytest.mark.extended
def test_best_preset_is_an_ensemble_with_repeats(pictures):
    quick = ("--epochs", 1, "-S", "train.size=64", "-S", "encode.size=64", "-S", "train.repeats=2")
    result = train(pictures, "--preset", "best", *quick)
    assert "ensemble: " in result.stderr and "ms an input" in result.stderr
    assert "2 trainings with different seeds: accuracy" in result.stdout
    assert "trial 1" in runs("colours") and any(name.startswith("repeat 2") for name in runs("colours"))
    assert Classifier.load("models/colours/repeats/2").classes == ("blue", "red")


def test_texts_have_no_presets(reviews):
    result = run("train", reviews, *TABLE, "--preset", "balanced")
    assert result.exit_code == 1 and "--preset: expected pictures, found texts" in result.stderr


def test_table_of_texts(reviews):
    train(reviews, *LSTM)
    classifier = Classifier.load("models/reviews/classifier")
    assert classifier.kind == "text" and classifier.classes == ("1", "5")
    assert classifier.description["parameters"]["train.epochs"] == 3


def test_from_starts_with_its_weights(reviews, first):
    train(reviews, *TABLE, "--from", first, "--save-dir", "second", "--learning-rate", "1e-9", "--epochs", "1")
    texts = ["A good film.", "A bad film."]
    before, after = (Classifier.load(folder) for folder in ("first", "second"))
    np.testing.assert_allclose(after.probabilities(texts), before.probabilities(texts), atol=1e-4)
    assert after.description["parameters"]["train.hidden_dim"] == 8


def test_from_weights_of_another_network(reviews, first):
    """One line each, and nothing is saved: other shapes, missing tensors, and sizes that no memory holds."""
    path, described = first / "weights.safetensors", first / "classifier.json"
    description = json.loads(described.read_text())
    del description["digests"]
    weights = load_file(path)
    name = next(name for name in weights if name.startswith("network."))
    huge = {**description, "parameters": {**description["parameters"], "train.hidden_dim": 2**40}}
    for changed, facts, message in (
        ({**weights, name: np.zeros((3, 1, 2), np.float32)}, description, "a network of other sizes"),
        ({key: value for key, value in weights.items() if key != name}, description, "a network of other sizes"),
        ({**weights, name: np.full_like(weights[name], np.nan)}, description, "is not finite"),
        (weights, huge, "the network of the starting weights cannot be made"),
    ):
        save_file(changed, path)
        described.write_text(json.dumps(facts))
        result = run("train", reviews, *TABLE, "--from", first, "--save-dir", "second", "--epochs", "1")
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert (result.exit_code, len(errors)) == (1, 1), result.output
        assert message in errors[0] and "bug" not in errors[0], errors
        assert not Path("second").exists()


def test_from_keeps_the_backbone(pictures):
    train(pictures, "--epochs", 2, "--save-dir", "first", "--backbone", "squeezenet1_1", "--set", "encode.weights=none")
    result = train(pictures, "--from", "first", "--save-dir", "second", "--epochs", 2)
    first, second = (Classifier.load(folder) for folder in ("first", "second"))
    assert second.preprocessing == first.preprocessing
    assert "parameters not given are those of first" in result.stderr


def test_from_refuses_changes(reviews, first):
    reviews.write_text(reviews.read_text().replace(",5", ",3"))
    for arguments, code, message in (
        (["--from", "first"], 1, "differ (new: 3; missing: 5)"),
        (["--from", "first", "--network", "ngrams"], 2, "leave out --network"),
        (["--from", "first", "--trials", "2"], 2, "leave out --trials"),
        (["--from", "nowhere"], 1, "nowhere: does not exist"),
    ):
        result = run("train", reviews, *TABLE, *arguments, "--save-dir", "second")
        assert (result.exit_code, message in result.stderr) == (code, True), result.output
    assert not Path("second").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "nowhere: does not exist"),
        (["sample"], 1, "add --kind"),
        (["colours", "--network", "lstm"], 1, "train.network: unknown parameter for this kind of data"),
        (["colours", "--kind", "text"], 1, "no examples found"),
        (["colours", "--learning-rate", "-1"], 1, "expected greater than 0"),
        (["colours", "--valid", "0.6", "--test", "0.5"], 1, "must leave a share for train"),
        (["colours", "--save-dir", "colours"], 1, "has other contents"),
        (["colours", "--device", "cuda"], 1, "torch finds no GPU"),
        (["colours", "--gpu"], 1, "torch finds no GPU"),
        (["colours", "--epochs", "0"], 2, "--epochs"),
        (["colours", "--set", "epochs"], 2, "NAME=VALUE"),
        (["colours", "--kind", "sound"], 2, "--kind"),
        (["colours", "--minutes", "3"], 2, "is for a preset"),
        (["colours", "--preset", "huge"], 2, "'huge' is not one of"),
        (["colours", "--preset", "best", "--from", "first"], 2, "that --from keeps"),
        (["colours", "--preset", "fast", "--minutes", "3"], 1, "--minutes: expected balanced or best"),
        (["colours", "--preset", "best", "--set", "encode.trainable_blocks=0"], 1, "choose preset fast"),
        (["colours", "--set", "train.ensemble=2"], 1, "at most as many networks as train.search.trials (1), found 2"),
        (["colours", "--set", "train.backbone=vgg16"], 1, "is not among those of encode.backbone"),
    ],
)
def test_wrong_usage_trains_nothing(pictures, arguments, code, message):
    result = run("train", *arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.output
    assert not Path("models", "colours", "classifier").exists()
    assert len(list(pictures.rglob("*.png"))) == 24


def test_other_classifier_is_not_replaced(reviews, folder):
    train(reviews, *LSTM)
    (folder / "other").mkdir()
    result = run("train", reviews.rename(folder / "other/reviews.csv"), *LSTM)
    assert result.exit_code == 1 and "was trained on reviews.csv" in result.stderr


def test_search_keeps_given_values(reviews):
    result = train(reviews, *LSTM, "--trials", 2)
    assert "trial 2/2" in result.stderr
    recorded = runs("reviews")
    trials = [recorded[name].data.params for name in ("trial 0", "trial 1")]
    assert [trial["train.network"] for trial in trials] == ["lstm", "lstm"]
    assert [trial["train.learning_rate"] for trial in trials] == ["0.02", "0.02"]
    assert (
        trials[0]["train.dropout"] != trials[1]["train.dropout"]
        or trials[0]["train.penalty"] != trials[1]["train.penalty"]
    )


def test_ctrl_c_exits_with_130(reviews, folder):
    command = [sys.executable, "-m", "flowerml", "train", reviews, *LSTM, "--epochs", "5000", "--save-dir", "stopped"]
    log = folder / "log"
    # A program that was started in the background of a shell ignores SIGINT, and so would its children.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with log.open("w") as file, subprocess.Popen(command, stderr=file, preexec_fn=listen) as process:
        for _ in range(1800):
            if "epoch 2/" in log.read_text() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    assert log.read_text().splitlines()[-1] == "interrupted" and "Traceback" not in log.read_text()
    assert not (folder / "stopped").exists()
    assert {run.info.status for run in runs("reviews").values()} == {"KILLED"}


def test_defaults_are_shipped():
    for kind in TASKS:
        sections = defaults(kind).sections
        name = {"image": "pictures", "text": "texts"}[kind]
        assert sections == params.read(SHIPPED_PARAMS)[name]
        checked_pipeline(name, kind, sections, path=SHIPPED_PARAMS)


def test_defaults_are_the_winner(reproduced, monkeypatch):
    monkeypatch.chdir(reproduced.folder)
    winner = Classifier.load("models/flowers/classifier").description["parameters"]
    parameters = flatten(defaults("image").sections)
    assert all(parameters[name] == value for name, value in winner.items() if name.startswith(("encode.", "train.")))
    assert parameters["data.sample_per_class"] == 14


def test_unknown_name_is_refused():
    sections = {"train": {"epochs": 3}}
    with pytest.raises(ParamsError, match=r"train\.epoch: unknown parameter .* did you mean 'train\.epochs'\?"):
        set_by_dotted_name(sections, {"train.epoch": 4})
    set_by_dotted_name(sections, {"train.epochs": 5, "encode.views": 2}, known_only=True)
    assert sections == {"train": {"epochs": 5}}
