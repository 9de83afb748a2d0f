"""`flowerml monitor`: the table, the page, the run and the exit code, on a small classifier and a made-up log."""

import hashlib
import json
from dataclasses import replace

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from flowerml.classifier import saved
from flowerml.cli.app import app
from flowerml.config.paths import DESCRIPTION
from flowerml.core import files
from flowerml.monitoring.inputs import Inputs, inputs_folder
from flowerml.monitoring.log import Log
from flowerml.monitoring.reference import Accuracy, Reference
from tests.monitoring.test_drift import records
from tests.support.registered import jpeg, picture_classifier

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folders of a classifier with a reference and of one without."""
    folder = tmp_path_factory.mktemp("models")
    old = picture_classifier(folder / "old").folder
    new = picture_classifier(folder / "new").folder
    content = Reference.of(records(200, seed=0), accuracy=Accuracy("valid", 190, 200)).to_bytes()
    (new / saved.REFERENCE).write_bytes(content)
    description = files.read_json(new / DESCRIPTION)
    description["digests"][saved.REFERENCE] = hashlib.sha256(content).hexdigest()
    files.write_json(new / DESCRIPTION, description)
    return {"new": str(new), "old": str(old)}


@pytest.fixture
def monitor(models, tmp_path, monkeypatch):
    """Return a function that runs the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def run(*arguments, model="new", record=False):
        return CliRunner().invoke(
            app, ["monitor", *arguments, "--model", models[model], *([] if record else ["--no-run"])]
        )

    return run


def write(path, rows, *, version=None, start=NOW):
    Log(path).append(replace(record, time=start + record.time, version=version, features=()) for record in rows)
    return str(path)


def test_file_without_a_record_says_what_it_holds(monitor, tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text("no log\nnor this\n")
    assert "2 damaged lines were skipped" in monitor(str(path)).stderr


def test_no_drift_exits_with_0(monitor, tmp_path):
    result = monitor(write(tmp_path / "log.jsonl", records(120, seed=1)))
    assert result.exit_code == 0 and "no drift was found" in result.stdout
    assert "120 inputs" in result.stdout


def test_drift_exits_with_3_and_tells_since_when(monitor, tmp_path):
    log = write(tmp_path / "log.jsonl", records(100, seed=1))
    write(tmp_path / "log.jsonl", records(100, seed=2, brightness=3.0), start=NOW + 1000)
    result = monitor(log, "--window", "100", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 3 and found["drifted_since"] == NOW + 1000
    assert [window["drifted"] for window in found["windows"]] == [False, True]
    assert found["windows"][1]["changed"] == ["brightness"] and found["model"] == {"name": "flowers", "version": None}


def test_page_shows_kept_inputs_and_accuracy(monitor, tmp_path):
    raws = [jpeg(number) for number in range(3)]
    digests = [hashlib.sha256(raw).hexdigest() for raw in raws]
    window = records(100, seed=2, brightness=3.0, rate=0.9)
    window[:3] = [replace(record, digest=digest) for record, digest in zip(window, digests, strict=False)]
    log = write(tmp_path / "log.jsonl", window)
    kept = Inputs(inputs_folder(tmp_path / "log.jsonl"), share=1)
    for raw, digest in zip(raws, digests, strict=True):
        kept.keep(raw, digest)
    (tmp_path / "labels.csv").write_text("digest,label\n" + "".join(f"{digest},rose\n" for digest in digests))
    result = monitor(log, "--out", "page.html", "--labels", "labels.csv")
    page = (tmp_path / "page.html").read_text()
    assert result.exit_code == 3 and "accuracy from labels" in result.stdout
    assert page.count('src="data:image/jpeg') == 3 and "answers whose label came later" in page
    assert page.count('<polygon class="after"') == 1 and 'class="bars"' in page  # a number and a category changed
    assert "<script" not in page and "Drifted since" in page


@pytest.mark.extended  # MLflow's database is made in 5 s
def test_run_has_metrics_and_page(monitor, tmp_path):
    log = write(tmp_path / "log.jsonl", records(100, seed=2, brightness=3.0))
    result = monitor(log, "--out", "page.html", record=True)
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("flowers").experiment_id])
    assert result.exit_code == 3 and run.data.tags["drifted"] == "True"
    assert run.data.metrics["drifted"] == 1 and run.data.metrics["p/brightness"] < 0.001
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"drift.json", "page.html"}


def test_names_the_models_of_the_log(monitor, tmp_path):
    log = write(tmp_path / "log.jsonl", records(60, seed=1), version="7")
    result = monitor(log)
    assert result.exit_code == 1
    assert (
        "expected records of flowers without a version" in result.stderr and "flowers version 7 (60)" in result.stderr
    )


def test_period_leaves_records_out(monitor, tmp_path):
    log = write(tmp_path / "log.jsonl", records(60, seed=1))
    write(tmp_path / "log.jsonl", records(60, seed=2, brightness=3.0), start=NOW + 86400 * 2)
    assert monitor(log, "--until", "2027-01-16").exit_code == 0
    assert monitor(log, "--since", "2027-01-16").exit_code == 3
    assert "it has none at all" in monitor(log, "--since", "2030-01-01T08:00").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--since", "yesterday"), 2, "12h or 7d"),
        (("--since", "1h", "--until", "2h"), 2, "expected a time after --since 1h"),
        (("--out", "."), 2, "is a folder"),
        (("--window", "10"), 2, "50"),
        (("--labels", "none.csv"), 1, "No such file"),
    ],
)
def test_wrong_options_are_one_line(monitor, tmp_path, arguments, code, reason):
    result = monitor(write(tmp_path / "log.jsonl", records(60, seed=1)), *arguments)
    assert result.exit_code == code and reason in result.stderr


def test_classifier_without_reference_is_an_error(monitor, tmp_path):
    result = monitor(write(tmp_path / "log.jsonl", records(60, seed=1)), model="old")
    assert result.exit_code == 1 and "trained before there were any; train it again" in result.stderr
