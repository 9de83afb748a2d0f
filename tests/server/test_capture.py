"""Capture: what reaches the log and the gauge, what is left out under load, and a log that cannot be written."""

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from flowerml.classifier.prediction import ClassProbability, Prediction
from flowerml.core.errors import FlowermlError, InputError
from flowerml.monitoring.inputs import kept_input
from flowerml.monitoring.log import read
from flowerml.monitoring.record import Record, digest
from flowerml.monitoring.reference import Reference
from flowerml.server import capture
from flowerml.server.capture import Budget, Capture
from flowerml.server.metrics import Metrics
from flowerml.server.settings import Settings
from flowerml.tasks import text

ANSWER = Prediction((ClassProbability("pos", "positive", 0.9),), known=True, features=(0.5, 2.0))

REFERENCE = Reference.of(
    Record(time=0.0, request="", model="reviews", version="3", digest=digest(str(words)), top=(("pos", 0.9),),
           known=True, properties={"words": float(words)})
    for words in range(100)
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Served:
    """A version of a model of texts, of which only the properties of its inputs are asked."""

    classifier: Any = field(default_factory=lambda: SimpleNamespace(task=text))
    model: dict[str, str | None] = field(default_factory=lambda: {"name": "reviews", "version": "3"})
    reference: Reference | None = None


@pytest.fixture
def started(tmp_path):
    """Yield a function that starts a capture with these settings, which ends with the test; and its log and metrics."""
    captures = []

    def start(**settings):
        values = {"log": tmp_path / "predictions.jsonl", "drift_window": 0, "threads": 1, **settings}
        metrics = Metrics()
        captures.append(Capture(Settings(models={"reviews": "models:/reviews@champion"}, **values), metrics))
        return captures[-1], values["log"], metrics

    yield start
    for opened in captures:
        opened.close()


def shown(metrics, name):
    """Return the values of a metric by its labels."""
    lines = metrics.render()[0].decode().splitlines()
    return {
        line.rpartition(" ")[0].removeprefix(name): float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith((f"{name} ", f"{name}{{"))
    }


def test_what_was_observed_is_written_at_the_end(started):
    capturing, log, metrics = started()
    capturing.observe(Served(), "A good film.", ANSWER, "id")
    capturing.observe(Served(), "", InputError("empty_text", "the text is empty"), "id")
    capturing.observe(Served(), InputError("bad_type", "no text"), InputError("bad_type", "no text"), "id")
    capturing.close()
    answered, empty, unread = read(log)
    assert (answered.model, answered.version, answered.request) == ("reviews", "3", "id")
    assert (answered.top, answered.known, answered.features) == ((("pos", 0.9),), True, (0.5, 2.0))
    assert (answered.digest, answered.properties["words"]) == (digest("A good film."), 3)
    assert (empty.error, empty.digest, empty.properties) == ("empty_text", digest(""), {})
    assert (unread.error, unread.digest) == ("bad_type", "")
    assert shown(metrics, "flowerml_log_records_total") == {"": 3}


def test_the_log_never_holds_an_input(started):
    capturing, log, _ = started()
    capturing.observe(Served(), "a secret of theirs", ANSWER, "id")
    capturing.close()
    assert b"secret" not in log.read_bytes() and len(list(log.parent.iterdir())) == 1


def test_a_share_of_inputs_is_kept_if_wanted(started):
    capturing, log, _ = started(keep_inputs=1.0)
    capturing.observe(Served(), None, InputError("bad_type", "no text"), "id")
    capturing.observe(Served(), "A good film.", ANSWER, "id")
    capturing.close()
    assert kept_input(log, digest("A good film.")) == b"A good film."


def test_a_full_queue_is_counted_and_not_waited_for(started, monkeypatch):
    monkeypatch.setattr(capture, "QUEUE", 20)
    monkeypatch.setattr(capture, "QUEUE_BYTES", 10_000)
    capturing, log, metrics = started()
    capturing.observe(Served(), "x" * 20_000, ANSWER, "id")
    for _ in range(30):
        capturing.observe(Served(), "A good film.", ANSWER, "id")
    capturing.close()
    assert len(list(read(log))) == 20
    assert shown(metrics, "flowerml_log_records_dropped_total") == {'{reason="queue"}': 11}


def test_a_log_that_cannot_be_written_is_reported_once(started, caplog):
    capturing, log, metrics = started()
    log.unlink()
    log.mkdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(600):
            capturing.observe(Served(), "A good film.", ANSWER, "id")
        capturing.close()
    assert [record.message for record in caplog.records] == [
        f"prediction log: {log}: Is a directory; the server goes on without these records"
    ]
    assert shown(metrics, "flowerml_log_records_dropped_total") == {'{reason="disk"}': 600}


def test_without_time_records_have_no_properties(started, monkeypatch):
    monkeypatch.setattr(capture, "CPU_SHARE", 0.0)
    monkeypatch.setattr(capture, "CLOSING", 0.0)
    capturing, log, metrics = started()
    capturing.observe(Served(), "A good film.", ANSWER, "id")
    capturing.close()
    (record,) = read(log)
    assert (record.properties, record.features) == ({}, (0.5, 2.0))
    assert sum(shown(metrics, "flowerml_log_records_without_properties_total").values()) == 1


def test_without_a_log_few_answers_are_enough(started, monkeypatch):
    monkeypatch.setattr(capture, "SAMPLED_SHARE", 0.0)
    monkeypatch.setattr(capture, "CLOSING", 0.0)
    capturing, _, metrics = started(log=None, drift_window=60, drift_seconds=1e-9)
    for number in range(60):
        capturing.observe(Served(reference=REFERENCE), f"{number} words", ANSWER, "id")
    capturing.close()
    assert shown(metrics, "flowerml_drift") == {}
    assert sum(shown(metrics, "flowerml_log_records_without_properties_total").values()) == 0


def test_an_input_that_breaks_the_measuring_loses_no_record(started, caplog):
    capturing, log, _ = started()
    capturing.observe(Served(), b"no text", ANSWER, "id")  # a bug, for a task of texts
    capturing.observe(Served(), "A good film.", ANSWER, "id")
    capturing.close()
    assert [bool(record.properties) for record in read(log)] == [False, True]
    assert "cannot be measured" in caplog.text


def test_drift_reaches_the_gauge_without_a_log(started, monkeypatch):
    monkeypatch.setattr(capture, "PAUSE", 0.0)
    monkeypatch.setattr(capture, "SAMPLED_SHARE", 1.0)  # a busy machine measures all 60, too
    served = Served(reference=REFERENCE)
    capturing, _, metrics = started(log=None, drift_window=60, drift_seconds=1e-9)
    for number in range(60):
        capturing.observe(served, f"{number} word" + " again" * (150 + number), ANSWER, "id")
    capturing.close()
    assert list(shown(metrics, "flowerml_drift").values()) == [1]


def test_a_log_in_no_folder_is_refused_at_the_start(started, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FlowermlError, match="cannot be written"):
        started(log=tmp_path / "file" / "predictions.jsonl")


def test_a_budget_is_a_share_of_the_processor():
    budget = Budget(0.0)
    assert not budget.is_left()
    budget.grant(0.001)
    assert budget.is_left()
    with budget.spending():
        sum(range(10**6))
    assert not budget.is_left()
