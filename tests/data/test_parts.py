"""Tables that are a folder of parts once they are large."""

import hashlib
import os
import shutil

import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from flowerml.core.errors import DataError
from flowerml.data import examples, row_digest
from flowerml.data.examples import Example, Examples
from flowerml.evaluation import labelled

ROWS = [Example(f"é/{n}", ("train", "valid", "test")[n % 3], f"c{n % 2}", f"text {n * 7919}" * 3) for n in range(40)]
IDS = [row.id for row in ROWS]


@pytest.fixture
def small(monkeypatch):
    """Make row groups and parts of a few rows."""
    monkeypatch.setattr(examples, "ROW_GROUP_BYTES", 100)
    monkeypatch.setattr(examples, "PART_BYTES", 300)


@pytest.fixture
def whole(tmp_path):
    examples.write(tmp_path / "whole.parquet", ROWS, raw=str)
    return Examples(tmp_path / "whole.parquet")


@pytest.fixture
def table(whole, small, tmp_path):
    """Return the same rows in several parts."""
    examples.write(tmp_path / "examples.parquet", iter(ROWS), raw=str)
    return Examples(tmp_path / "examples.parquet")


def test_a_large_table_is_a_folder(table, whole):
    assert whole.path.is_file() and len(table.parts) > 3
    assert [part.name for part in table.parts][:2] == ["part-00000.parquet", "part-00001.parquet"]
    assert list(table) == list(whole) == ROWS
    assert list(table.keys("train", "test")) == list(whole.keys("train", "test"))
    assert table.count("train") == whole.count("train") == 14


def test_rows_are_a_limit_too(monkeypatch, tmp_path):
    monkeypatch.setattr(examples, "ROW_GROUP_BYTES", 1)
    monkeypatch.setattr(examples, "PART_ROWS", 16)
    examples.write(tmp_path / "a.parquet", ROWS, raw=str)
    assert [pq.read_metadata(part).num_rows for part in Examples(tmp_path / "a.parquet").parts] == [16, 16, 8]


@pytest.mark.parametrize("splits", [(), ("train",), ("valid", "test"), ("none",)])
@pytest.mark.parametrize("run", [5, 2**18])
def test_digest_ignores_parts(table, whole, splits, run, monkeypatch):
    monkeypatch.setattr(row_digest, "RUN_ROWS", run)
    chosen = [row for row in ROWS if not splits or row.split in splits]
    lines = sorted("\t".join((row.id, row.split, row.label, row.digest)) for row in chosen)
    expected = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert table.digest(*splits) == whole.digest(*splits) == expected


def test_blocks_are_the_table(table):
    blocks = table.blocks(rows=2)
    assert [row.id for row in table.of("train", "valid", "test", blocks=blocks)] == IDS
    parts = [list(table.of("train", blocks=[block])) for block in blocks]
    assert [row for part in parts for row in part] == list(table.of("train"))
    assert sum(table.count("train", blocks=[block]) for block in blocks) == 14


@pytest.mark.parametrize("count", [1, 3, 7, 39, 60])
def test_shares_are_equal_and_whole(table, count):
    shares = [table.share(number, count, "train", "valid") for number in range(1, count + 1)]
    assert [row.id for share in shares for row in table.of("train", "valid", "test", blocks=share)] == IDS
    sizes = [table.count("train", "valid", blocks=share) for share in shares]
    assert sum(sizes) == 27 and max(sizes) - min(sizes) <= 1


def test_shares_of_an_empty_table(tmp_path):
    examples.write(tmp_path / "a.parquet", [], raw=str)
    assert [Examples(tmp_path / "a.parquet").share(number, 3, "train") for number in (1, 2, 3)] == [[], [], []]


@pytest.mark.parametrize("number", [0, 1, -1])
def test_a_missing_part_is_named(table, number):
    part = table.parts[number]
    part.unlink()
    with pytest.raises(DataError, match=part.name):
        list(table)


def test_other_files_in_the_folder_are_ignored(table):
    (table.path / "_SUCCESS").touch()
    (table.path / ".part-00000.parquet.crc").touch()
    assert list(table) == ROWS


def test_arrow_datasets_read_the_folder(table):
    assert pyarrow.dataset.dataset(table.path).to_table()["id"].to_pylist() == IDS


def test_pandas_reads_the_folder(table):
    pandas = pytest.importorskip("pandas")
    assert pandas.read_parquet(table.path)["id"].tolist() == IDS


def test_file_becomes_folder_and_back(whole, small, tmp_path):
    content, path = whole.path.read_bytes(), whole.path
    examples.write(path, ROWS, raw=str)
    assert path.is_dir() and list(Examples(path)) == ROWS
    examples.PART_BYTES = examples.ROW_GROUP_BYTES = 2**20  # restored by the fixture
    examples.write(path, ROWS, raw=str)
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


def test_failure_keeps_the_former_folder(table):
    def failing():
        yield from ROWS[:30]
        raise KeyError("the source went away")

    with pytest.raises(KeyError):
        examples.write(table.path, failing(), raw=str)
    assert list(table) == ROWS and {path.name for path in table.path.parent.iterdir()} == {
        "whole.parquet",
        "examples.parquet",
    }


def test_a_folder_is_evaluated_on(table):
    assert labelled.is_table(table.path) and labelled.kind_of_table(table.path) == "text"
    assert [row.id for row, _ in labelled.from_table(table.path, "test", limit=None).read()] == IDS[2::3]


@pytest.mark.parametrize("damage", ["empty", "others", "pipe", "missing"])
def test_other_things_are_no_table(tmp_path, damage):
    path = tmp_path / "a.parquet"
    if damage == "pipe":
        os.mkfifo(path)
    elif damage != "missing":
        path.mkdir()
    if damage == "others":
        shutil.copy(__file__, path / "part-00000.parquet")
    assert not labelled.is_table(path)
