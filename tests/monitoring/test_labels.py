"""Accuracy from labels that come later."""

from dataclasses import replace

import pytest

from flowerml.core.errors import DataError
from flowerml.monitoring.labels import labelled, read_labels
from flowerml.monitoring.record import digest
from flowerml.monitoring.reference import Accuracy
from tests.monitoring.test_drift import records

ROSE, TULIP = digest("a rose"), digest("a tulip")


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_reads_labels_by_digest(table):
    rows = f"\ufeffLabel,when,Digest\nrose,now,{ROSE.upper()}\n\n tulip ,,{TULIP}\nrose,,{ROSE}\n"
    assert read_labels(table(rows)) == {ROSE: "rose", TULIP: "tulip"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no digest and no label in the first line"),
        ("id,label\n1,rose\n", "found no digest"),
        ("digest,label\nabc,rose\n", "line 2: expected the SHA-256 .* found abc and rose"),
        (f"digest,label\n{ROSE}\n", "and none"),
        (f"digest,label\n{ROSE},rose\n{ROSE},tulip\n", "line 3: the input .* has the label tulip, and rose above"),
        ('digest,label\n"', "expected a CSV file"),
    ],
)
def test_wrong_tables_are_errors(table, text, reason):
    with pytest.raises(DataError, match=reason):
        read_labels(table(text))


def test_other_encodings_and_missing_files_are_errors(table, tmp_path):
    with pytest.raises(DataError, match="UTF-8"):
        read_labels(table("digest,label\n", encoding="utf-16"))
    with pytest.raises(DataError, match="No such file"):
        read_labels(tmp_path / "none.csv")


def test_accuracy_of_each_input_once():
    answered = records(100, seed=1)
    labels = {record.digest: record.top[0][0] for record in answered[:90]} | {answered[0].digest: "daisy", ROSE: "rose"}
    unread = replace(answered[95], top=(), error="not_a_picture")
    later = [*answered, *answered[:50], unread]
    result = labelled(later, labels, classes=("rose", "tulip"), expected=Accuracy("valid", 80, 100))
    assert (result.overall.correct, result.overall.count, result.unmatched, result.unknown) == (89, 90, 1, 1)
    assert [period.count for period in result.periods] == [30, 30, 30]
    assert sum(period.correct for period in result.periods) == 89
    assert not result.worse and result.p < 0.001
    low, high = result.overall.interval.low, result.overall.interval.high
    assert low < 89 / 90 < high < 1


def test_lower_accuracy_is_worse():
    answered = records(100, seed=1)
    labels = {record.digest: "daisy" for record in answered}
    assert labelled(answered, labels, classes=(), expected=Accuracy("valid", 90, 100)).worse
    assert not labelled(answered, labels, classes=(), expected=None).worse


def test_no_label_in_the_log_is_none():
    assert labelled(records(3, seed=1), {ROSE: "rose"}, classes=(), expected=None) is None
