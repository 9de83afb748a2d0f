"""Entries of several trials at once: few calls, each run in its order, and one run that fails does not stop others."""

from collections import Counter
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException, RestException

from flowerml.tracking import mirror as mirror_module
from flowerml.tracking.journal import Journal
from flowerml.tracking.mirror import Mirror, reference


class Record:
    """An MLflow server that records its calls, rejects the metric `bad` and fails on the runs in `broken`."""

    def __init__(self, broken: tuple[str, ...] = ()) -> None:
        self.broken = set(broken)
        self.calls: list[tuple[str, str]] = []
        self.steps: dict[str, list[int]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.ended: list[str] = []
        self.down = False

    def create_run(self, experiment_id, run_name, start_time, tags):
        self._called("create", run_name)
        self.tags[run_name] = dict(tags)
        return type("Run", (), {"info": type("Info", (), {"run_id": run_name})})

    def log_batch(self, run_id, metrics, params, tags):
        self._called("log", run_id)
        if any(metric.key == "bad" for metric in metrics):
            raise RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "a bad metric"})
        self.steps.setdefault(run_id, []).extend(metric.step for metric in metrics)
        self.tags[run_id].update({tag.key: tag.value for tag in tags})

    def set_terminated(self, run_id, status, end_time):
        self._called("end", run_id)
        self.ended.append(run_id)

    def update_run(self, run_id, status):
        self._called("resume", run_id)

    def search_runs(self, *_, **__):
        return []

    def _called(self, kind: str, run: str) -> None:
        self.calls.append((kind, run))
        if self.down:
            raise MlflowException("API request to http://here failed")
        if run in self.broken:
            raise RestException({"error_code": "INTERNAL_ERROR", "message": "value too long"})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return the journal of three trials at once, whose entries take turns."""
    journal = Journal(tmp_path / "runs.jsonl", experiment="1")
    journal.create("search", name="search", tags={}, time=0)
    for trial in "abc":
        journal.create(trial, name=trial, tags={"parent": reference("search")}, time=0)
    for step in range(50):
        for trial in "abc":
            journal.log(trial, metrics=[("loss", 0.5, 0, step)])
    journal.log("search", tags=[("best", reference("d"))])
    journal.create("d", name="d", tags={}, time=0)
    for trial in "abc":
        journal.end(trial, "FINISHED", time=1)
    return journal


def sent_by(journal: Journal, server: Record) -> Mirror:
    """Return a mirror that has tried to send everything once."""
    mirror = Mirror(journal, server, server="here")  # type: ignore[arg-type]
    mirror.flush()
    return mirror


def test_runs_in_turns_need_one_call_each(journal):
    server = Record()
    assert sent_by(journal, server).close()
    assert Counter(kind for kind, _ in server.calls) == {"create": 5, "log": 4, "end": 3}
    assert server.steps == {run: list(range(50)) for run in "abc"} | {"search": []}
    assert server.tags["search"]["best"] == "d" and server.tags["a"]["parent"] == "search"


def test_acknowledged_entries_are_those_received(journal):
    assert sent_by(journal, Record()).close()
    journal.close()
    again = Journal(journal.path)
    assert again.pending == 0 and set(again.ids) == {"search", *"abcd"}


def test_run_the_server_fails_on_does_not_stop_others(journal, capsys):
    server = Record()
    sent_by(journal, server).close()  # the runs exist
    for step in range(50, 53):
        for trial in "abc":
            journal.log(trial, metrics=[("loss", 0.5, 0, step)])
    server.broken = {"b"}
    mirror = sent_by(journal, server)
    assert mirror.problem == "INTERNAL_ERROR: value too long"
    assert server.steps["a"][-1] == server.steps["c"][-1] == 52 and server.steps["b"][-1] == 49
    assert journal.pending == 9 - 1  # the first is received
    server.broken.clear()
    assert mirror.close() and server.steps == {run: list(range(53)) for run in "abc"} | {"search": []}
    journal.close()
    assert Journal(journal.path).pending == 0


def test_server_that_is_down_is_asked_once(journal):
    server = Record()
    server.down = True
    mirror = sent_by(journal, server)
    assert "API request" in mirror.problem and server.calls == [("create", "search")]
    mirror.close()
    assert len(list(journal.unsent(999))) == journal.pending == len(journal)


def test_bad_metric_costs_its_own_entry(journal, capsys):
    journal.log("a", metrics=[("bad", 1.0, 0, 0)])
    journal.log("a", metrics=[("bad", 1.0, 0, 1)])
    server = Record()
    journal.create("a", name="a", tags={}, time=2)
    assert sent_by(journal, server).close()
    assert server.steps["a"] == list(range(50))
    assert capsys.readouterr().err.count("rejected part of the run 'a'") == 1


def test_more_entries_than_a_window_are_sent(journal, monkeypatch):
    monkeypatch.setattr(mirror_module, "WINDOW", 7)
    server = Record()
    assert sent_by(journal, server).close()
    assert server.steps == {run: list(range(50)) for run in "abc"} | {"search": []}
