"""Runs told to a real MLflow server that is killed half-way, and to those that are not there."""

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
from flowerml.tracking import runs as tracking
from flowerml.tracking.journal import Journal


class Server:
    """`mlflow server` on a database of its own, always on the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.start()

    def start(self) -> None:
        line = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--workers", "1"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*line, "--host", "127.0.0.1", "--port", str(self.port)],
                **{"cwd": self.folder, "env": {**os.environ, "PATH": path}, "start_new_session": True},
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
    found = Server(tmp_path_factory.mktemp("server"))
    yield found
    found.kill()


@pytest.fixture
def told(server, tmp_path, monkeypatch) -> MlflowClient:
    """What the server knows; programs run in a new folder, and record there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return MlflowClient(server.uri)


def epochs(run: tracking.Run, *numbers: int) -> None:
    for number in numbers:
        run.epoch(Epoch(number, 1.0, 0.5, 1.0, number / 100, 0.1, 0.1))


def story(told: MlflowClient, experiment: str) -> dict[str, tuple[str, list[int]]]:
    """How each run of an experiment ended, and the steps of its validation accuracy."""
    known = told.get_experiment_by_name(experiment)
    assert known is not None
    found = told.search_runs([known.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    steps = {run.info.run_id: told.get_metric_history(run.info.run_id, "valid_accuracy") for run in found}
    return {run.info.run_name: (run.info.status, [one.step for one in steps[run.info.run_id]]) for run in found}


@contextmanager
def at_once():
    """No call in this block waited for a server."""
    before = time.monotonic()
    yield
    assert time.monotonic() - before < 1


def test_a_server_that_dies_half_way_and_comes_back_has_all_metrics_in_the_right_runs(server, told):
    with tracking.run("half-way", "search", {}) as parent:
        with parent.child("trial 0", {}) as run:
            epochs(run, 1, 2)
            assert run.id
            server.kill()
            with at_once():
                epochs(run, *range(3, 50))
        with at_once(), parent.child("trial 1", {}) as run:
            epochs(run, *range(1, 50))
        with at_once():
            parent.tags({"best_run_id": parent.reference("trial 1")})
        server.start()
    whole = list(range(1, 50))
    found = story(told, "half-way")
    assert found == {"search": ("FINISHED", []), "trial 0": ("FINISHED", whole), "trial 1": ("FINISHED", whole)}
    runs = told.search_runs([parent.experiment])
    best, top = (next(run for run in runs if run.info.run_name == name) for name in ("trial 1", "search"))
    assert top.data.tags["best_run_id"] == best.info.run_id
    assert best.data.tags["mlflow.parentRunId"] == top.info.run_id


def test_what_a_server_that_stays_away_was_not_told_is_said_and_sent_by_the_next_command(server, told, capsys):
    with tracking.run("later", "search", {}) as parent:
        server.kill()
        with parent.child("trial 0", {}) as run:
            epochs(run, 1, 2, 3)
    said = capsys.readouterr().err
    assert "has not been told everything of the run 'search': 6 entries are kept in" in said
    assert len(list(Path(".flowerml/runs/unsent").iterdir())) == 1
    server.start()
    with tracking.run("another", "search", {}):
        pass
    assert story(told, "later") == {"search": ("FINISHED", []), "trial 0": ("FINISHED", [1, 2, 3])}
    assert not list(Path(".flowerml/runs").rglob("*.jsonl"))


def abandoned(experiment: str, *, sent: bool) -> None:
    """As if killed: a run that has begun, with the word that the server has it or without."""
    searching = tracking.run(experiment, "search", {}, resume="key")
    with suppress(KeyboardInterrupt), searching as parent, parent.child("trial 0", {}) as run:
        epochs(run, 1, 2)
        assert run.id
        raise KeyboardInterrupt
    journal = next(Path(".flowerml/runs").glob("*.jsonl"))
    lines = journal.read_text().splitlines(keepends=True)
    lines = lines[: next(number for number, line in enumerate(lines) if "KILLED" in line)]
    journal.write_text("".join(line for line in lines if sent or '"sent"' not in line) + '{"do": "log", "run": "sea')


@pytest.mark.parametrize("sent", [True, False])
def test_a_run_that_is_gone_on_with_has_every_epoch_once(told, sent):
    experiment = f"gone on with {sent}"
    abandoned(experiment, sent=sent)
    with tracking.run(experiment, "search", {}, resume="key") as parent, parent.child("trial 0", {}) as run:
        epochs(run, 2, 3)
    tracking.forget(experiment, "search")
    assert story(told, experiment) == {"search": ("FINISHED", []), "trial 0": ("FINISHED", [1, 2, 3])}
    assert not list(Path(".flowerml/runs").rglob("*.jsonl"))


def test_a_killed_run_that_nobody_goes_on_with_ends_as_killed_when_another_begins(told):
    abandoned("given up", sent=True)
    with tracking.run("given up", "another", {}, resume="another key"):
        pass
    found = story(told, "given up")
    assert {name: status for name, (status, _) in found.items()} == {
        **{"search": "KILLED", "trial 0": "KILLED", "another": "FINISHED"}
    }


def test_what_the_server_refuses_is_told_and_the_rest_is_logged(told, capsys):
    with tracking.run("refused", "search", {}) as run:
        run.metrics({"a name that ? is no name": 1.0})
        epochs(run, 1, 2)
        run.tags({"after": "it"})
    assert story(told, "refused") == {"search": ("FINISHED", [1, 2])}
    assert "refused a part of the run 'search': " in capsys.readouterr().err


def test_a_server_that_is_down_at_the_start_is_told_of_in_seconds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    before = time.monotonic()
    with pytest.raises(FlowermlError, match=r"runs cannot be recorded in MLflow at http://127\.0\.0\.1:9: "):
        tracking.check()
    assert time.monotonic() - before < 15


def test_a_server_that_takes_calls_and_never_answers_is_told_of_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "LONGEST_ANSWER", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(FlowermlError, match="no answer within 1 s; set MLFLOW_TRACKING_URI"):
            tracking.check()


def test_a_line_that_was_being_written_when_the_process_was_killed_is_dropped(tmp_path):
    first = Journal(tmp_path / "journal.jsonl", experiment="1")
    first.create("search", name="search", tags={}, time=1)
    first.close()
    whole = first.path.read_bytes()
    first.path.write_bytes(whole + b'{"do": "end", "run": "sea')
    again = Journal(first.path)
    assert again.entries == first.entries and again.facts == first.facts
    again.end("search", "FINISHED", time=2)
    assert first.path.read_bytes().startswith(whole) and Journal(first.path).open_runs == []
