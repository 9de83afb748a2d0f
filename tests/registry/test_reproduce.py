"""`flowerml reproduce`: a version run again in a clean copy, and compared."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.config.paths import Paths
from flowerml.core.errors import FlowermlError
from flowerml.registry import reproduce
from flowerml.tracking import lineage
from tests.support.project import set_params

pytestmark = pytest.mark.slow


@pytest.fixture
def project(reproduced, monkeypatch):
    """Return the folder of the reproduced project, which commands run in."""
    monkeypatch.chdir(reproduced.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{reproduced.folder}/mlflow.db")
    return reproduced.folder


@pytest.fixture
def recorded(project):
    """Return what was recorded of the first version of the flowers."""
    return reproduce.load_recorded("flowers", "1")


@pytest.fixture
def results(project, tmp_path):
    """Return a folder with the results of that version, which tests may change."""
    for name in ("data/flowers/examples.parquet", "reports/flowers/metrics.json", "dvc.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((project / name).read_bytes())
    weights = Paths("flowers", tmp_path).classifier / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes((Paths("flowers", project).classifier / weights.name).read_bytes())
    return tmp_path


def change_metrics(folder, **values):
    path = folder / "reports/flowers/metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_lock(folder, stage, out):
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    entry = next(entry for entry in lock["stages"][f"{stage}@flowers"]["outs"] if entry["path"] == out)
    entry["md5"] = "another"
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))


def test_same_results_are_identical(recorded, results):
    assert str(reproduce.compare(recorded, results)).startswith("identical: ")


def test_other_metrics_within_intervals(recorded, results):
    limits = recorded.facts["intervals"]["accuracy"]
    change_metrics(results, accuracy=limits["low"])
    comparison = reproduce.compare(recorded, results)
    assert (comparison.outcome, comparison.stage, comparison.reproduced) == ("within", "evaluate", True)
    change_metrics(results, accuracy=limits["low"] - 0.001)
    comparison = reproduce.compare(recorded, results)
    assert str(comparison) == "different, first at stage evaluate" and not comparison.reproduced
    assert comparison.details[0].startswith("accuracy 0.")


def test_first_different_stage_is_named(recorded, results):
    (Paths("flowers", results).classifier / "weights.safetensors").write_bytes(b"other")
    change_metrics(results, accuracy=0.0)
    assert reproduce.compare(recorded, results).stage == "train"
    change_lock(results, "encode", "data/flowers/encoded.arrow")
    comparison = reproduce.compare(recorded, results)
    assert (comparison.stage, comparison.details[0]) == ("encode", "encode: data/flowers/encoded.arrow")


def test_copy_has_code_without_results(project, recorded, tmp_path):
    before = (project / "MLproject").read_text()
    (project / "MLproject").write_text(before.replace("name: flowerml", "name: changed"))
    patch = lineage.uncommitted_changes().patch
    (project / "MLproject").write_text(before)
    copy = reproduce.clean_copy(replace(recorded, patch=patch), project, tmp_path)
    assert (copy / "MLproject").read_text().startswith("name: changed\n")
    assert not (copy / "dvc.lock").exists() and not (copy / "models").exists()
    written = yaml.safe_load((copy / "params.yaml").read_text())
    assert set(written) == {"pipelines", "flowers"} and written["flowers"]["train"]["epochs"] == 4


def test_copy_keeps_the_search_order(project, recorded, tmp_path):
    search = recorded.params["flowers"]["train"]["search"]
    search["space"] = dict(sorted(search["space"].items(), reverse=True))
    copy = reproduce.clean_copy(recorded, project, tmp_path)
    written = yaml.safe_load((copy / "params.yaml").read_text())["flowers"]["train"]["search"]["space"]
    assert list(written) == list(search["space"]) != sorted(written)


def test_copy_finds_data_and_password(project, recorded, tmp_path):
    data = recorded.params["flowers"]["data"]
    (project / "pictures").mkdir(exist_ok=True)
    data["source"] = "pictures"
    copy = reproduce.clean_copy(recorded, project, tmp_path / "path")
    written = yaml.safe_load((copy / "params.yaml").read_text())
    assert written["flowers"]["data"]["source"] == str(project / "pictures")
    (project / "pictures").rmdir()
    data["source"] = "https://host/data.zip?…"
    before = (project / "params.yaml").read_text()
    set_params(project / "params.yaml", {"flowers.data.source": "https://me:secret@host/data.zip?key=1"})
    copy = reproduce.clean_copy(recorded, project, tmp_path / "url")
    assert "https://me:secret@host/data.zip?key=1" in (copy / "params.yaml").read_text()
    (project / "params.yaml").write_text(before)
    with pytest.raises(FlowermlError, match="was not recorded; put the full URL"):
        reproduce.clean_copy(recorded, project, tmp_path / "forgotten")


@pytest.mark.parametrize(
    ("commit", "message"),
    [("0" * 40, "flowers version 1: its commit 000000000000 is not in the git repository"), (None, "outside a git")],
)
def test_missing_commit_is_one_line(project, recorded, tmp_path, commit, message):
    lost = replace(recorded, facts={**recorded.facts, "git_commit": commit})
    with pytest.raises(FlowermlError, match=message) as raised:
        reproduce.clean_copy(lost, project, tmp_path)
    assert "\n" not in str(raised.value)


def test_remarks(recorded):
    assert reproduce.lost_changes(recorded) is None and list(reproduce.remarks(recorded)) == []
    facts = {**recorded.facts, "untracked": ["mine.py"], "environment": {"version.torch": "1.0"}}
    untracked, torch = reproduce.remarks(replace(recorded, facts=facts))
    assert "mine.py" in untracked and torch.startswith("made with torch 1.0, found ")


@pytest.fixture
def register(project, tmp_path):
    """Register versions of another model, with changed lineage of the first version of the flowers."""
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    client.create_registered_model("lost")
    origin = client.get_model_version("flowers", "1").run_id

    def with_facts(**changed):
        run = client.create_run(client.get_run(origin).info.experiment_id).info
        folder = client.download_artifacts(origin, lineage.FOLDER, str(tmp_path))
        path = tmp_path / lineage.FOLDER / lineage.FACTS
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
        client.log_artifacts(run.run_id, folder, lineage.FOLDER)
        client.set_terminated(run.run_id)
        return client.create_model_version("lost", run.artifact_uri, run.run_id).version

    yield with_facts
    client.delete_registered_model("lost")


def run(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def test_lost_changes_need_force(register):
    version = register(not_kept="they are too large", git_commit="0" * 40)
    refused = run(version, "--name", "lost")
    assert refused.exit_code == 1 and "not kept: they are too large; --force leaves them out" in refused.stderr
    forced = run(version, "--name", "lost", "--force")
    assert forced.exit_code == 1 and "error: lost version 1: its commit 000000000000 is not in" in forced.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("99",), "flowers version 99: "),
        (("nobody",), "alias nobody not found"),
        (("1", "--name", "nothing"), "not found"),
        (("1", "--keep", "flowerml"), "flowerml: already exists"),
    ],
)
def test_unknown_version_is_one_line(project, arguments, message):
    result = run(*arguments)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.exit_code == 1 and len(errors) == 1 and message in errors[0]


def test_version_without_lineage(register):
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    version = client.create_model_version("lost", "elsewhere").version
    assert "has no recorded lineage" in run(version, "--name", "lost").stderr


@pytest.mark.extended  # a whole pipeline, in a clean copy
def test_reproduced_bit_for_bit(reproduced, tmp_path):
    environment = {**reproduced.environment(), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "flowerml", "reproduce", "1", "--name", "reviews"]
    done = subprocess.run(command, cwd=reproduced.folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == (
        "reviews version 1: identical: the same data, the same weights bit for bit, the same metrics\n"
    ), done.stderr
    assert done.returncode == 0 and "running evaluate" in done.stderr
    assert list(tmp_path.glob("flowerml-*")) == []
    assert reproduced.run("git", "status", "--porcelain", "--", "flowerml", "stages", "params.yaml").stdout == ""
