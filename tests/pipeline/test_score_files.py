"""Answers to many inputs in a file: a row each, resumed after a kill to the same bytes."""

import csv
import json
import resource

import numpy as np
import pyarrow.parquet as pq
import pytest

from flowerml.classifier.prediction import ClassProbability, Prediction
from flowerml.core.errors import FlowermlError
from flowerml.core.locks import try_lock
from flowerml.core.os_errors import explain_os_error
from flowerml.engine.executors import Place
from flowerml.pipeline import score
from flowerml.pipeline.score import formats
from flowerml.pipeline.score.pieces import Entry, EntryStretch, Problem
from flowerml.tasks.registry import TASKS


class Lengths:
    """A classifier of texts by their length, which counts its answers and can be killed."""

    task, classes, names = TASKS["text"], ("long", "short", "none"), {}

    def __init__(self, kill_after=None):
        self.answered, self.kill_after = 0, kill_after

    def predict_each(self, raws, *, top_k):
        for raw in raws:
            if self.answered == self.kill_after:
                raise KeyboardInterrupt
            self.answered += 1
            share = float(np.float64(1 / (1 + len(raw))))
            top = (ClassProbability("long", "a long text", share), ClassProbability("short", "a short one", 1 - share))
            yield Prediction(top[:top_k], share > 0.5, 0.75, None if share > 0.5 else "unlike the training texts")


def entries(count):
    """Return texts of different lengths, of which every hundredth cannot be read."""
    for number in range(1, count + 1):
        error = Problem("empty_text", "an empty text") if number % 100 == 0 else None
        yield Entry(f"row {number}", error or "é" * (number % 7))


def write(path, classifier, count=700, top_k=1, **identity):
    def stretches():
        return iter([EntryStretch(entries(count))])

    return score.score(classifier, stretches, str(path), identity=identity, place=Place(), top_k=top_k)


def test_a_row_for_each_input(tmp_path):
    written = write(tmp_path / "answers.csv", Lengths())
    assert (written.rows, written.unreadable, written.resumed) == (700, 7, 0)
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 701)]
    assert rows[0] == {
        "row": "1",
        "input": "row 1",
        "label": "long",
        "name": "a long text",
        "probability": "0.5",
        "known": "False",
        "out_of_distribution": "0.75",
        "reason": "unlike the training texts",
        "error": "",
        "message": "",
    }
    assert (rows[99]["label"], rows[99]["error"], rows[99]["message"]) == ("", "empty_text", "an empty text")


def test_formats_agree(tmp_path):
    for suffix in formats.FORMATS:
        write(tmp_path / f"answers{suffix}", Lengths())
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert pq.read_table(tmp_path / "answers.parquet").to_pylist() == lines
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["probability"] or "nan") for row in rows] == pytest.approx(
        [float("nan") if line["probability"] is None else line["probability"] for line in lines], nan_ok=True, abs=0
    )


@pytest.mark.parametrize("suffix", formats.FORMATS)
@pytest.mark.parametrize("killed_after", [0, 100, 256, 600])
def test_killed_command_is_resumed(tmp_path, suffix, killed_after):
    expected, path = tmp_path / f"expected{suffix}", tmp_path / f"answers{suffix}"
    write(expected, Lengths())
    with pytest.raises(KeyboardInterrupt):
        write(path, Lengths(kill_after=killed_after))
    assert not path.exists()
    second = Lengths()
    written = write(path, second)
    assert written.resumed == killed_after // 256 * 256
    assert second.answered <= 693 - written.resumed + 7
    assert path.read_bytes() == expected.read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {path.name, expected.name}


@pytest.mark.parametrize("cut", [1, 10, 5000])
def test_torn_part_is_resumed(tmp_path, cut):
    path, part = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.part"
    with pytest.raises(KeyboardInterrupt):
        write(path, Lengths(kill_after=600))
    part.write_bytes(part.read_bytes()[:-cut])
    assert write(path, Lengths()).resumed == 256
    write(tmp_path / "expected.jsonl", Lengths())
    assert path.read_bytes() == (tmp_path / "expected.jsonl").read_bytes()


def test_part_of_other_inputs_is_not_resumed(tmp_path):
    path = tmp_path / "answers.csv"
    with pytest.raises(KeyboardInterrupt):
        write(path, Lengths(kill_after=600), inputs="former")
    assert write(path, Lengths(), inputs="newer").resumed == 0


def test_two_commands_do_not_write_one_file(tmp_path):
    with try_lock(tmp_path / ".answers.csv.lock"), pytest.raises(FlowermlError) as caught:
        write(tmp_path / "answers.csv", Lengths())
    assert "another command is writing it; wait for it, or choose another --out" in str(caught.value)


@pytest.mark.parametrize("name", ["answers", "answers.txt", "answers.xlsx"])
def test_unknown_format_is_refused(tmp_path, name):
    with pytest.raises(FlowermlError, match=r"expected a file ending in \.csv, \.jsonl, \.parquet"):
        score.check_out(str(tmp_path / name))


def test_more_classes_are_more_columns(tmp_path):
    write(tmp_path / "answers.jsonl", Lengths(), count=1, top_k=2)
    row = json.loads((tmp_path / "answers.jsonl").read_text())
    assert (row["label"], row["label_2"], row["name_2"], row["probability_2"]) == ("long", "short", "a short one", 0.5)
    assert len(row) == 13


def test_part_of_fewer_classes_is_not_resumed(tmp_path):
    path = tmp_path / "answers.csv"
    with pytest.raises(KeyboardInterrupt):
        write(path, Lengths(kill_after=600))
    assert write(path, Lengths(), top_k=2).resumed == 0


@pytest.mark.parametrize("out", ["answers.csv", "answers/"])
def test_full_disk_is_one_line_and_is_resumed(tmp_path, out):
    expected = contents(tmp_path / "expected", out, Lengths())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000 if out == "answers.csv" else 3_000, hard))
    try:
        with pytest.raises(OSError) as caught:
            contents(tmp_path / "full", out, Lengths())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert explain_os_error(caught.value).startswith(f"{tmp_path / 'full' / out}")
    assert contents(tmp_path / "full", out, Lengths()) == expected


def contents(folder, out, classifier):
    """Write answers in a folder, and return the bytes of its files."""
    folder.mkdir(exist_ok=True)
    write(f"{folder}/{out}", classifier)
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
