"""What is recorded of a run holds no password, whoever wrote it."""

import pytest
from mlflow import MlflowClient

from flowerml.core.errors import FlowermlError
from flowerml.tracking import connection, mirror, runs

REMOTE = "https://oauth2:s3cret@host/team/project.git"


def test_tags_hold_no_password(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(OSError), runs.run("search", "search", {"mlflow.source.git.repoURL": REMOTE}) as run:
        run.tags({"source": REMOTE})
        run_id = run.run_id
        raise OSError(f"API request to {REMOTE} failed")
    tags = MlflowClient().get_run(run_id).data.tags
    assert tags["mlflow.source.git.repoURL"] == tags["source"] == "https://host/team/project.git"
    assert tags["reason"] == "API request to https://host/team/project.git failed"
    assert "s3cret" not in str(tags)


def test_unreachable_server_is_named_without_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:s3cret@127.0.0.1:9")
    with pytest.raises(FlowermlError, match=r"API request to http://127\.0\.0\.1:9/api") as raised:
        connection.check()
    assert "s3cret" not in str(raised.value)


def test_notes_hold_no_password(capsys):
    mirror.notify(f"rejected by {REMOTE}")
    assert capsys.readouterr().err == "rejected by https://host/team/project.git\n"
