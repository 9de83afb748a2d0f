"""Lineage: what git, DVC and the data tell of a result, and what MLflow records of it."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from mlflow import MlflowClient

from flowerml.data.examples import Examples
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tracking import lineage

NOBODY = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return a git repository with one commit, and work in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text("one = 1\n")
    (tmp_path / "params.yaml").write_text("rate: 1\n")
    for command in (("init", "-q"), ("add", "-A"), (*NOBODY, "commit", "-q", "-m", "start")):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_only_results_leave_a_commit_clean(repository):
    (repository / "reports").mkdir()
    for result in ("dvc.lock", "reports/metrics.json"):
        (repository / result).write_text("{}")
    assert lineage.git_state()["git_dirty"] == "false" and len(lineage.git_state()["git_commit"]) == 40
    (repository / "params.yaml").write_text("rate: 2\n")
    assert lineage.git_state()["git_dirty"] == "true"


def test_changes_keep_code_not_parameters(repository):
    (repository / "code.py").write_text("one = 2\n")
    (repository / "params.yaml").write_text("source: https://me:secret@host/data.zip\n")
    (repository / "notes ü.txt").write_text("mine")
    changes = lineage.uncommitted_changes()
    assert b"+one = 2" in changes.patch and b"secret" not in changes.patch
    assert changes.untracked == ("notes ü.txt",) and changes.not_kept is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [("x" * 2**20 + "\n", "at most 1,048,576 are kept"), ('url = "https://me:secret@host/"\n', "with a password")],
)
def test_large_or_secret_changes_are_dropped(repository, content, reason):
    (repository / "code.py").write_text(content)
    changes = lineage.uncommitted_changes()
    assert changes.patch == b"" and reason in changes.not_kept


def test_patch_ignores_git_settings(repository):
    for name, value in {"diff.noprefix": "true", "color.ui": "always", "diff.external": "false"}.items():
        subprocess.run(["git", "config", name, value], check=True)
    (repository / "code.py").write_text("one = 2\n")
    assert lineage.uncommitted_changes().patch.startswith(b"diff --git a/code.py b/code.py\n")


def test_no_git_no_dvc_is_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert lineage.git_state() == {}
    assert lineage.uncommitted_changes() == lineage.Changes(b"", None, ())
    assert lineage.locked_stages("flowers", before="export") == {}


def test_damaged_lock_is_empty(tmp_path):
    lock = tmp_path / "dvc.lock"
    for content in ("", "[]", "{", "stages: 3", "\x00"):
        lock.write_text(content)
        assert lineage.locked_stages("flowers", before="export", lock=lock) == {}


@pytest.fixture(scope="module")
def client(reproduced):
    return MlflowClient(f"sqlite:///{reproduced.folder}/mlflow.db")


@pytest.fixture(scope="module")
def version(client):
    return client.get_model_version("flowers", "1")


def test_version_and_run_carry_lineage(reproduced, client, version):
    commit = reproduced.run("git", "rev-parse", "HEAD").stdout.strip()
    examples = Examples(reproduced.folder / "data/flowers/examples.parquet")
    expected = {"git_commit": commit, "git_dirty": "false", "data_digest": examples.digest(), "threads": "1"}
    run = client.get_run(version.run_id)
    for tags in (version.tags, run.data.tags):
        assert expected.items() <= tags.items()
        assert {"python", "machine", "version.torch", "version.mlflow"} <= set(tags)
    assert version.tags["weights_digest"] == lineage.weights_digest(reproduced.folder / "models/flowers/classifier")
    assert run.data.params["train.epochs"] == "4"


def test_version_carries_locked_stages(reproduced, version):
    locked = yaml.safe_load((reproduced.folder / "dvc.lock").read_text())["stages"]
    for stage in ("download", "extract", "encode", "train", "evaluate"):
        recorded = json.loads(version.tags[f"dvc.{stage}"])
        assert recorded["outs"] == {out["path"]: out["md5"] for out in locked[f"{stage}@flowers"]["outs"]}
        assert f"stages/{stage}.py" in recorded["deps"]
    assert "dvc.export" not in version.tags


def test_each_split_is_a_dataset(reproduced, client, version):
    inputs = client.get_run(version.run_id).inputs.dataset_inputs
    logged = {entry.tags[0].value: entry.dataset for entry in inputs}
    examples = Examples(reproduced.folder / "data/flowers/examples.parquet")
    rows = {split: json.loads(dataset.profile)["num_rows"] for split, dataset in logged.items()}
    assert rows == {"train": 100, "valid": 20, "test": 20}
    assert examples.digest("test").startswith(logged["test"].digest)
    assert json.loads(logged["train"].source) == {"uri": "sample"}


def test_recorded_parameters_are_readable(reproduced, client, version, tmp_path):
    folder = client.download_artifacts(version.run_id, lineage.FOLDER, str(tmp_path))
    recorded = load_pipeline("flowers", tmp_path / "lineage/params.yaml")
    assert recorded == load_pipeline("flowers", reproduced.folder / "params.yaml")
    facts = json.loads((tmp_path / "lineage/lineage.json").read_text())
    assert folder and facts["metrics"] == json.loads((reproduced.folder / "reports/flowers/metrics.json").read_text())


def test_export_without_git_or_lock(reproduced, tmp_path):
    folder = tmp_path / "unpacked"
    ignore = shutil.ignore_patterns(".git", ".dvc", "dvc.lock", "mlflow.db", "mlruns", "flowers", "encoded.arrow")
    shutil.copytree(reproduced.folder, folder, ignore=ignore, symlinks=True)
    environment = {**reproduced.environment(), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    subprocess.run([sys.executable, "-m", "stages.export", "reviews"], cwd=folder, env=environment, check=True)
    tags = MlflowClient(environment["MLFLOW_TRACKING_URI"]).get_model_version("reviews", "1").tags
    assert tags["verdict"] == "promoted" and len(tags["data_digest"]) == 64
    assert not [name for name in tags if name.startswith(("git_", "dvc."))]
