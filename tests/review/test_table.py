import csv
import os
import signal
import subprocess
import sys

import pytest

from flowerml.core.errors import DataError
from flowerml.data.layout import Listing, Row
from flowerml.data.split_table import SplitTable
from flowerml.review.table import Decision, Entry, Former, LabelTable

ENTRIES = [
    Entry("rose/1.jpg", "rose", "train", "ann"),
    Entry("rose/ü, \"2\".jpg", "rose", "test"),
    Entry("tulip/1.jpg", "tulip", "train"),
]  # fmt: skip
DECISIONS = {
    "rose/1.jpg": Decision("relabel", "tulip"),
    ENTRIES[1].file: Decision("drop"),
    "tulip/1.jpg": Decision("keep"),
}
LISTING = [Row(entry.file, "") for entry in ENTRIES]
# Decides without end, and reports each decision once it is acknowledged.
DECIDE = """
import sys
from pathlib import Path
from flowerml.review.table import Decision, Entry, LabelTable
table = LabelTable(Path(sys.argv[1]), [Entry(f"{n}.jpg", "rose", "train") for n in range(2000)])
for n in range(2000):
    table.decide(f"{n}.jpg", Decision("drop"))
    print(n, flush=True)
"""


@pytest.fixture
def table(tmp_path):
    return LabelTable(tmp_path / "labels.csv", ENTRIES)


def decide_all(table):
    for file, decision in DECISIONS.items():
        table.decide(file, decision)


def test_split_table_does_what_was_decided(table):
    decide_all(table)
    result = SplitTable.read(table.path).apply(Listing(list(LISTING)))
    assert [(row.id, row.label, row.split, row.group) for row in result.rows] == [
        ("rose/1.jpg", "tulip", "train", "ann"),
        ("tulip/1.jpg", "tulip", "train", None),
    ]
    assert [skip["reason"] for skip in result.skipped] == ["dropped in the table labels.csv"]


def test_every_decision_is_on_disk_at_once(table):
    for count, (file, decision) in enumerate(DECISIONS.items(), 1):
        table.decide(file, decision)
        assert len(Former.read(table.path).decisions) == count


def test_decision_is_taken_back(table):
    decide_all(table)
    for file in DECISIONS:
        table.decide(file, None)
    with table.path.open(newline="") as file:
        assert [(row["split"], row["label"], row["decision"]) for row in csv.DictReader(file)] == [
            (entry.split, entry.label, "") for entry in ENTRIES
        ]


def test_second_review_goes_on(table):
    decide_all(table)
    former = Former.read(table.path)
    assert former.decisions == DECISIONS
    assert [(e.file, e.label, e.split, e.group) for e in former.entries.values()] == [
        (e.file, e.label, e.split, e.group) for e in ENTRIES
    ]
    again = LabelTable(table.path, former.entries.values(), former.decisions)
    before = table.path.read_bytes()
    again.write()
    assert table.path.read_bytes() == before


def test_no_decision_writes_nothing(table):
    assert not table.path.exists()


def test_other_tables_are_not_replaced(tmp_path):
    path = tmp_path / "splits.csv"
    path.write_text("file,split\n1.jpg,train\n")
    with pytest.raises(DataError, match="is no table of a review, and would be replaced; choose another --out"):
        Former.read(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b'file,split,group,label,decision,given_split,given_label\n"a'])
def test_damaged_table_is_refused(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.csv"):
        Former.read(path)


def test_unknown_decision_is_refused(table):
    table.decide("rose/1.jpg", Decision("keep"))
    table.path.write_text(table.path.read_text().replace("keep", "burn"))
    with pytest.raises(DataError, match=r"the decision 'burn' on rose/1.jpg is not one of keep, relabel, drop"):
        Former.read(table.path)


def test_edit_by_another_program_is_not_overwritten(table):
    table.decide("rose/1.jpg", Decision("keep"))
    edited = table.path.read_text() + "4.jpg,train,,rose,,train,rose\n"
    table.path.write_text(edited)
    with pytest.raises(DataError, match="another program has changed it"):
        table.decide("tulip/1.jpg", Decision("drop"))
    assert table.path.read_text() == edited
    assert "tulip/1.jpg" not in table.decisions


def test_full_disk_changes_nothing(table, limit_file_size):
    table.decide("rose/1.jpg", Decision("keep"))
    before = table.path.read_bytes()
    limit_file_size(20)
    with pytest.raises(OSError):
        table.decide("tulip/1.jpg", Decision("drop"))
    limit_file_size(2**20)
    assert (table.path.read_bytes(), list(table.path.parent.iterdir())) == (before, [table.path])
    table.decide("tulip/1.jpg", Decision("keep"))
    assert set(Former.read(table.path).decisions) == {"rose/1.jpg", "tulip/1.jpg"}


def test_kill_loses_nothing_acknowledged(tmp_path):
    path = tmp_path / "labels.csv"
    with subprocess.Popen([sys.executable, "-c", DECIDE, path], stdout=subprocess.PIPE, text=True) as process:
        acknowledged = [process.stdout.readline() for _ in range(40)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += process.stdout.readlines()
    former = Former.read(path)
    assert {f"{int(line)}.jpg" for line in acknowledged} <= set(former.decisions)
    assert len(former.entries) == 2000


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([Entry("1.jpg", "rose ")], "does not keep the spaces at the ends of these classes: 'rose '"),
        ([Entry("a.jpg", "rose"), Entry(" a.jpg", "rose")], "cannot tell 'a.jpg' from ' a.jpg'"),
    ],
)
def test_names_that_a_table_cannot_hold_are_refused(tmp_path, entries, message):
    with pytest.raises(DataError, match=message):
        LabelTable(tmp_path / "labels.csv", entries)
