"""`flowerml ui`: its links, the view of an experiment, a busy port, and its end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.tracking import connection, experiment, runs
from tests.support.registered import registry


@pytest.fixture
def client(tmp_path):
    """Yield a client in a folder whose experiment was made by an older flowerml, with a run."""
    with registry(tmp_path):
        connection.prepare()
        client = MlflowClient()
        client.create_experiment("old", tags=experiment.TRAINING_VIEW)
        client.create_run("1")
        yield client


def test_experiment_has_columns_and_a_description(tmp_path):
    with registry(tmp_path), runs.run("birds", "search", {}) as run:
        tags = run.client.get_experiment(run.experiment_id).tags
    assert "metrics.`best_valid_accuracy`" in json.loads(tags[experiment.SHARED_VIEW])["selectedColumns"]
    assert tags[experiment.NOTE].startswith("Trainings of `birds`")


def test_older_experiment_gets_them_and_a_persons_words_stay(client):
    client.set_experiment_tag("1", experiment.NOTE, "mine")
    experiment.complete(client, client.get_experiment("1"))
    tags = client.get_experiment("1").tags
    assert tags[experiment.NOTE] == "mine" and experiment.SHARED_VIEW in tags


def test_busy_port_is_one_line(client):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        result = CliRunner().invoke(app, ["ui", "--port", str(server.getsockname()[1])])
    assert result.exit_code == 1
    assert re.search(r"^error: port \d+ is in use; choose another one, such as --port \d+$", result.stderr, re.M)


def test_unknown_experiment_names_those_there_are(client):
    result = CliRunner().invoke(app, ["ui", "birds"])
    assert result.exit_code == 1 and "known are Default, old" in result.stderr


def test_folder_without_a_project_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = CliRunner().invoke(app, ["ui"])
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: no mlflow.db and no params.yaml in {tmp_path}; run this in the project's folder, or set "
        "MLFLOW_TRACKING_URI\n"
    )
    assert not list(tmp_path.iterdir())


def test_project_without_runs_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").touch()
    result = CliRunner().invoke(app, ["ui", "birds"])
    assert "known are Default" in result.stderr


def test_renamed_run_is_resumed_by_its_key(tmp_path):
    with registry(tmp_path):
        for _ in range(2):
            with runs.run("birds", "search", {}, resume="key") as parent, parent.child("trial 0", {}) as child:
                child.rename("trial 0 · valid 0.900")
        names = [run.info.run_name for run in parent.client.search_runs([parent.experiment_id])]
    assert sorted(names) == ["search", "trial 0 · valid 0.900"]


@pytest.mark.extended
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_answers_and_ends_with_all_its_processes(client, number):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "flowerml", "ui", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as ui:
        assert ui.stdout is not None
        line = ui.stdout.readline()
        assert line.split()[1] == experiment.link(f"http://127.0.0.1:{port}", "1")
        with urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200
        ui.send_signal(number)
        assert ui.wait(60) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
