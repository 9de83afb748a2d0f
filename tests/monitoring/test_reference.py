"""The reference of a classifier: its columns, its size, and what a stranger may have written in its place."""

import json

import pytest

from flowerml.classifier.prediction import ClassProbability, Prediction
from flowerml.core.errors import InputError, ModelError
from flowerml.monitoring import profile
from flowerml.monitoring.record import Record
from flowerml.monitoring.reference import MAX_BYTES, ROWS, Accuracy, Reference

NAMES = ("known words", "projection 1")


def record(number=0, *, properties=None, label="pos", features=(0.123456789, -2.0)):
    top = (ClassProbability(label, label, 0.987654321), ClassProbability("neg", "neg", 0.012345679))
    answer = Prediction(top, known=number % 2 == 0, out_of_distribution=0.25, features=features)
    model = {"name": "reviews", "version": None}
    return Record.of("Good.", answer, time=0.0, request="", model=model, properties=properties or {"words": number})


def test_a_row_has_properties_features_and_the_answer():
    assert profile.row(record(4), NAMES) == {
        "words": 4,
        "known words": 0.12,
        "projection 1": -2.0,
        "top probability": 0.9877,
        "class": "pos",
        "known": "yes",
        "out of distribution": 0.25,
    }


def test_features_of_another_classifier_are_left_out():
    assert "projection 1" not in profile.row(record(), ("projection 1",))


def test_an_error_has_no_row():
    unread = Record.of(None, InputError("empty_text", ""), time=0.0, request="", model={"name": "r", "version": None})
    assert profile.row(unread, NAMES) == {}
    assert Reference.of([unread]).count == 0


def test_a_reference_survives_its_file():
    reference = Reference.of(map(record, range(40)), features=NAMES, accuracy=Accuracy("valid", 36, 40))
    assert reference == Reference.from_bytes(reference.to_bytes())
    assert reference.columns["known words"][0] == 0.12
    assert reference.columns["words"][:3] == (0.0, 1.0, 2.0)
    assert reference.columns["known"][:2] == ("yes", "no")


def test_rows_are_evenly_spaced():
    reference = Reference.of(map(record, range(2 * ROWS + 1)))
    words = reference.columns["words"]
    assert words[:3] == (0.0, 2.0, 4.0) and words[-1] == 1998.0 and reference.count == ROWS


def test_a_missing_number_is_none():
    reference = Reference.of([record(properties={"light": 1.0}), record(properties={"words": 2})])
    assert reference.columns["light"] == (1.0, None)
    assert Reference.from_bytes(reference.to_bytes()) == reference


@pytest.mark.parametrize("count", [0, 60])
def test_a_file_is_small_whatever_its_columns(count):
    properties = {f"property {number}": number / 7 for number in range(count)}
    labels = [f"{number} {'x' * 500}" for number in range(1200)]
    reference = Reference.of([record(properties=properties, label=label) for label in labels])
    assert 0.85 * MAX_BYTES < len(reference.to_bytes()) <= MAX_BYTES


def file(**changed):
    value = {"format": 1, "features": [], "columns": {"words": [1, None, 2.5]}, **changed}
    return json.dumps(value).encode()


def test_a_file_is_read():
    assert Reference.from_bytes(file()).columns == {"words": (1.0, None, 2.5)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        file(format=2),
        file(features=["a", "a"]),
        file(features=[1]),
        file(columns={"words": [1], "light": [1, 2]}),
        file(columns={"words": ["1"]}),
        file(columns={"words": [float("nan")]}),
        file(columns={"words": [10**400]}),
        file(columns={"words": [True]}),
        file(columns={"words": [0] * (ROWS + 1)}),
        file(columns={f"{number}": [] for number in range(101)}),
        file(columns={"x" * 101: []}),
        file(columns={"class": {"values": ["a"], "codes": [1]}}),
        file(columns={"class": {"values": ["a"], "codes": [-1]}}),
        file(accuracy={"split": "valid", "correct": 1}),
        file(accuracy={"split": "valid", "correct": 1, "count": 0}),
    ],
)
def test_a_damaged_file_is_one_line(content):
    with pytest.raises(ModelError, match=r"^reference\.json: ") as error:
        Reference.from_bytes(content)
    assert str(error.value).isprintable() and len(str(error.value)) < 300
