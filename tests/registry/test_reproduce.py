"""`flowerml reproduce`: a version made once more, and what is said of it."""

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
from flowerml.registry import client as registered
from flowerml.registry import reproduce
from flowerml.tracking import lineage
from tests.support.project import set_params


@pytest.fixture
def project(reproduced, monkeypatch):
    """The reproduced project as the folder that commands run in."""
    monkeypatch.chdir(reproduced.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{reproduced.folder}/mlflow.db")
    return reproduced.folder


@pytest.fixture
def recorded(project):
    """What was recorded of the first version of the flowers."""
    return reproduce.load_recorded("flowers", "1")


@pytest.fixture
def made(project, tmp_path):
    """What was made for that version, in a folder that tests may change."""
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
    next(one for one in lock["stages"][f"{stage}@flowers"]["outs"] if one["path"] == out)["md5"] = "another"
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))


def test_what_is_the_same_is_identical(recorded, made):
    assert str(reproduce.compare(recorded, made)).startswith("identical: ")


def test_other_metrics_are_within_the_stored_intervals_or_not(recorded, made):
    limits = recorded.facts["intervals"]["accuracy"]
    change_metrics(made, accuracy=limits["low"])
    found = reproduce.compare(recorded, made)
    assert (found.outcome, found.stage, found.reproduced) == ("within", "evaluate", True)
    change_metrics(made, accuracy=limits["low"] - 0.001)
    found = reproduce.compare(recorded, made)
    assert str(found) == "different, first at stage evaluate" and not found.reproduced
    assert found.details[0].startswith("accuracy 0.")


def test_the_first_stage_that_differs_is_named(recorded, made):
    (Paths("flowers", made).classifier / "weights.safetensors").write_bytes(b"other")
    change_metrics(made, accuracy=0.0)
    assert reproduce.compare(recorded, made).stage == "train"
    change_lock(made, "encode", "data/flowers/encoded.arrow")
    found = reproduce.compare(recorded, made)
    assert (found.stage, found.details[0]) == ("encode", "encode: data/flowers/encoded.arrow")


def test_a_copy_has_the_versions_code_and_parameters_and_no_results(project, recorded, tmp_path):
    before = (project / "MLproject").read_text()
    (project / "MLproject").write_text(before.replace("name: flowerml", "name: changed"))
    patch = lineage.uncommitted_changes().patch
    (project / "MLproject").write_text(before)
    copy = reproduce.clean_copy(replace(recorded, patch=patch), project, tmp_path)
    assert (copy / "MLproject").read_text().startswith("name: changed\n")
    assert not (copy / "dvc.lock").exists() and not (copy / "models").exists()
    written = yaml.safe_load((copy / "params.yaml").read_text())
    assert set(written) == {"pipelines", "flowers"} and written["flowers"]["train"]["epochs"] == 4


def test_a_copy_has_the_search_space_in_its_order_as_the_draws_depend_on_it(project, recorded, tmp_path):
    search = recorded.params["flowers"]["train"]["search"]
    search["space"] = dict(sorted(search["space"].items(), reverse=True))
    copy = reproduce.clean_copy(recorded, project, tmp_path)
    written = yaml.safe_load((copy / "params.yaml").read_text())["flowers"]["train"]["search"]["space"]
    assert list(written) == list(search["space"]) != sorted(written)


def test_a_copy_finds_the_data_where_they_are_and_with_the_password_that_the_project_has(project, recorded, tmp_path):
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
    with pytest.raises(FlowermlError, match="the query was not recorded"):
        reproduce.clean_copy(recorded, project, tmp_path / "forgotten")


@pytest.mark.parametrize(
    ("commit", "said"), [("0" * 40, "commit 000000000000, which made flowers version 1"), (None, "outside a git")]
)
def test_a_commit_that_is_not_there_is_told_in_a_line(project, recorded, tmp_path, commit, said):
    lost = replace(recorded, facts={**recorded.facts, "git_commit": commit})
    with pytest.raises(FlowermlError, match=said) as found:
        reproduce.clean_copy(lost, project, tmp_path)
    assert "\n" not in str(found.value)


def test_what_is_strange_of_a_version_is_remarked_upon(recorded):
    assert reproduce.lost_changes(recorded) is None and list(reproduce.remarks(recorded)) == []
    facts = {**recorded.facts, "untracked": ["mine.py"], "environment": {"version.torch": "1.0"}}
    strange, torch = reproduce.remarks(replace(recorded, facts=facts))
    assert "mine.py" in strange and torch.startswith("made with torch 1.0, here is ")


@pytest.fixture
def register(project, tmp_path):
    """Registers a version of another model, with what was recorded of the first one of the flowers, changed."""
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


def test_a_version_whose_changes_were_not_kept_is_only_made_by_force(register):
    version = register(not_kept="they are too large", git_commit="0" * 40)
    refused = run(version, "--name", "lost")
    assert refused.exit_code == 1 and "not committed, and they are too large; --force leaves them out" in refused.stderr
    forced = run(version, "--name", "lost", "--force")
    assert forced.exit_code == 1 and "error: commit 000000000000, which made lost version 1" in forced.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("99",), "flowers version 99: "),
        (("nobody",), "alias nobody not found"),
        (("1", "--name", "nothing"), "not found"),
        (("1", "--keep", "flowerml"), "flowerml: exists already"),
    ],
)
def test_what_cannot_be_reproduced_is_told_in_a_line(project, arguments, said):
    result = run(*arguments)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.exit_code == 1 and len(errors) == 1 and said in errors[0]


def test_a_version_registered_by_hand_says_that_nothing_is_known_of_it(register):
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    version = client.create_model_version("lost", "elsewhere").version
    assert "nothing was recorded of how it was made" in run(version, "--name", "lost").stderr


def test_a_version_is_reproduced_bit_for_bit_and_nothing_is_left_or_registered(reproduced, tmp_path):
    environment = {**reproduced.environment(), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "flowerml", "reproduce", "1", "--name", "reviews"]
    done = subprocess.run(command, cwd=reproduced.folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == (
        "reviews version 1: identical: the same data, the same weights bit for bit, the same metrics\n"
    ), done.stderr
    assert done.returncode == 0 and "running evaluate" in done.stderr
    assert list(tmp_path.glob("flowerml-*")) == []
    assert reproduced.run("git", "status", "--porcelain", "--", "flowerml", "stages", "params.yaml").stdout == ""
