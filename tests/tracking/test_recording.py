"""Runs recorded on a real MLflow server that is killed half-way, and on servers that are down or silent."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from flowerml.core.errors import FlowermlError
from flowerml.engine.fit import Epoch
from flowerml.tracking import connection, runs
from flowerml.tracking.journal import Journal

pytestmark = pytest.mark.slow


class Server:
    """`mlflow server` with its own database, always on the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.start()

    def start(self) -> None:
        command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--workers", "1"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self.port)],
                cwd=self.folder,
                env={**os.environ, "PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
                stdout=log,
                stderr=log,
            )
        for _ in range(1200):
            with suppress(requests.ConnectionError):
                if requests.get(f"{self.uri}/health", timeout=5).ok:
                    return
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def client(server, tmp_path, monkeypatch) -> MlflowClient:
    """Return a client of the server; the test works in a new folder and records there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return MlflowClient(server.uri)


def epochs(run: runs.Run, *numbers: int) -> None:
    for number in numbers:
        run.epoch(Epoch(number, 1.0, 0.5, 1.0, number / 100, 0.1, 0.1))


def recorded(client: MlflowClient, experiment_name: str) -> dict[str, tuple[str, list[int]]]:
    """Return the status of each run of an experiment, and the steps of its validation accuracy."""
    experiment = client.get_experiment_by_name(experiment_name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    history = {run.info.run_id: client.get_metric_history(run.info.run_id, "valid_accuracy") for run in runs}
    return {run.info.run_name: (run.info.status, [row.step for row in history[run.info.run_id]]) for run in runs}


@contextmanager
def no_waiting():
    """Assert that no call in this block waits for a server."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 4  # to give a dead server up takes 5


def test_server_killed_half_way_loses_nothing(server, client):
    with runs.run("half-way", "search", {}) as parent:
        with parent.child("trial 0", {}) as run:
            epochs(run, 1, 2)
            assert run.run_id
            server.kill()
            with no_waiting():
                epochs(run, *range(3, 50))
        with no_waiting(), parent.child("trial 1", {}) as run:
            epochs(run, *range(1, 50))
        with no_waiting():
            parent.tags({"best_run_id": parent.reference("trial 1")})
        server.start()
    steps = list(range(1, 50))
    assert recorded(client, "half-way") == {
        "search": ("FINISHED", []),
        "trial 0": ("FINISHED", steps),
        "trial 1": ("FINISHED", steps),
    }
    by_name = {run.info.run_name: run for run in client.search_runs([parent.experiment_id])}
    best, top = by_name["trial 1"], by_name["search"]
    assert top.data.tags["best_run_id"] == best.info.run_id
    assert best.data.tags["mlflow.parentRunId"] == top.info.run_id


def test_unsent_entries_are_sent_by_next_run(server, client, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")  # the server does not come back between two attempts
    with runs.run("later", "search", {}) as parent:
        server.kill()
        with parent.child("trial 0", {}) as run:
            epochs(run, 1, 2, 3)
    assert "has not received everything of the run 'search': 6 entries are kept in" in capsys.readouterr().err
    assert len(list(Path(".flowerml/runs/unsent").iterdir())) == 1
    server.start()
    with runs.run("another", "search", {}):
        pass
    assert recorded(client, "later") == {"search": ("FINISHED", []), "trial 0": ("FINISHED", [1, 2, 3])}
    assert not list(Path(".flowerml/runs").rglob("*.jsonl"))


def abandoned(experiment: str, *, sent: bool) -> None:
    """Leave a started run behind as if killed, with or without the server's acknowledgement in the journal."""
    search = runs.run(experiment, "search", {}, resume="key")
    with suppress(KeyboardInterrupt), search as parent, parent.child("trial 0", {}) as run:
        epochs(run, 1, 2)
        assert run.run_id
        raise KeyboardInterrupt
    journal = next(Path(".flowerml/runs").glob("*.jsonl"))
    lines = journal.read_text().splitlines(keepends=True)
    lines = lines[: next(number for number, line in enumerate(lines) if "KILLED" in line)]
    journal.write_text("".join(line for line in lines if sent or '"sent"' not in line) + '{"do": "log", "run": "sea')


@pytest.mark.parametrize("sent", [True, False])
def test_resumed_run_has_each_epoch_once(client, sent):
    experiment = f"resumed, sent {sent}"
    abandoned(experiment, sent=sent)
    with runs.run(experiment, "search", {}, resume="key") as parent, parent.child("trial 0", {}) as run:
        epochs(run, 2, 3)
    runs.finish_resumable(experiment, "search")
    assert recorded(client, experiment) == {"search": ("FINISHED", []), "trial 0": ("FINISHED", [1, 2, 3])}
    assert not list(Path(".flowerml/runs").rglob("*.jsonl"))


def test_abandoned_run_ends_killed(client):
    abandoned("given up", sent=True)
    with runs.run("given up", "another", {}, resume="another key"):
        pass
    statuses = {name: status for name, (status, _) in recorded(client, "given up").items()}
    assert statuses == {"search": "KILLED", "trial 0": "KILLED", "another": "FINISHED"}


def test_rejected_entry_is_reported(client, capsys):
    with runs.run("refused", "search", {}) as run:
        run.metrics({"not a ? valid name": 1.0})
        epochs(run, 1, 2)
        run.tags({"after": "it"})
    assert recorded(client, "refused") == {"search": ("FINISHED", [1, 2])}
    assert "rejected part of the run 'search': " in capsys.readouterr().err


def test_server_down_at_start_fails_fast(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(FlowermlError, match=r"runs cannot be recorded in MLflow at http://127\.0\.0\.1:9: "):
        connection.check()
    assert time.monotonic() - start < 60


def test_silent_server_times_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connection, "RESPONSE_TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(FlowermlError, match="no answer within 1 s; set MLFLOW_TRACKING_URI"):
            connection.check()


def test_torn_last_line_is_dropped(tmp_path):
    first = Journal(tmp_path / "journal.jsonl", experiment="1")
    first.create("search", name="search", tags={}, time=1)
    first.close()
    complete = first.path.read_bytes()
    first.path.write_bytes(complete + b'{"do": "end", "run": "sea')
    second = Journal(first.path)
    assert list(second.unsent(9)) == list(first.unsent(9)) and second.header == first.header
    second.end("search", "FINISHED", time=2)
    assert first.path.read_bytes().startswith(complete) and Journal(first.path).open_runs == []
