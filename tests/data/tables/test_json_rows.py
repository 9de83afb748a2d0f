"""JSON: lines and arrays, numbers as they are spelled."""

import json

import pytest

from flowerml.core.errors import DataError
from tests.data.tables.conftest import pairs

ROWS = [{"text": "good", "label": 0}, {"text": "dull", "label": 1}]


def lines(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_label_beside_a_missing_one(opened):
    assert pairs(opened("a.jsonl", lines([*ROWS, {"text": "fine"}])))[:2] == [("good", "0"), ("dull", "1")]


@pytest.mark.parametrize("spelling", ["9007199254740993", "1.50", "1e3", "-0", "1" * 5000])
def test_numbers_keep_their_spelling(opened, spelling):
    content = f'{{"text": "a", "label": null}}\n{{"text": "b", "label": {spelling}}}\n'.encode()
    assert pairs(opened("a.jsonl", content)) == [("a", None), ("b", spelling)]


def test_label_first_in_a_late_row(opened):
    assert pairs(opened("a.jsonl", lines([{"text": "a"}, {"label": "pos", "text": "b"}]))) == [
        ("a", None),
        ("b", "pos"),
    ]


@pytest.mark.parametrize("label", [["pos", "film"], {"stars": 5}])
def test_several_labels_are_refused(opened, label):
    table = opened("a.jsonl", lines([*ROWS, {"text": "fine", "label": label}]))
    with pytest.raises(DataError, match=r"row 3: its label is an? (list|object); expected one class a row"):
        pairs(table)


def test_list_as_text_is_a_problem(opened):
    table = opened("a.jsonl", lines([*ROWS, {"text": ["fine"], "label": 1}]))
    assert [record.problem for record in table.records()] == [None, None, "its text is a list"]


@pytest.mark.parametrize("indent", [None, 2])
def test_arrays_are_read(opened, indent):
    content = json.dumps([{**row, "text": row["text"] * 40_000} for row in ROWS], indent=indent).encode()
    assert [(len(text), label) for text, label in pairs(opened("a.json", content))] == [(160_000, "0"), (160_000, "1")]


def test_lines_called_json_are_read(opened):
    assert pairs(opened("a.json", lines(ROWS))) == [("good", "0"), ("dull", "1")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_told_apart(opened, encoding):
    content = '{"text": "un café près de l\'opéra", "label": "pos"}\n'.encode(encoding)
    assert pairs(opened("a.jsonl", content)) == [("un café près de l'opéra", "pos")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', "line 2 is not JSON"),
        ("a.jsonl", b'["a"]\n', "line 1 is no object"),
        ("a.jsonl", b"[" * 100_000, "line 1 is nested too deeply"),
        ("a.json", b"[" * 100_000, "element 1 is nested too deeply"),
        ("a.json", b'[{"text": "a"}', "element 2 is not JSON"),
        ("a.json", b'[{"text": "a"}, 5]', "element 2 is no object"),
        ("a.json", b"[]", "holds no rows"),
        ("a.json", b"", "holds no rows"),
        ("a.json", b'{\n"text": ["a"]\n}', "line 1 is not JSON"),
    ],
)
def test_other_json_is_refused(opened, name, content, message):
    with pytest.raises(DataError, match=message):
        pairs(opened(name, content))
