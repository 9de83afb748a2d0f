import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from flowerml.data import encodings, examples
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Example, Examples, Key

PICTURES = [
    Example("rose/1", "train", "rose", b"\xff\xd8\x00"),
    Example("lily/1", "test", "lily", b""),
    Example("rose/2", "train", "rose", bytes(range(256))),
]
REVIEWS = [
    Example("pos/1", "train", "pos", 'A "délicious"\tfilm.\n<br />\N{ROSE}'),
    Example("neg/1", "valid", "neg", ""),
]
KEYS = [Key(str(number), "train" if number % 3 else "valid", "rose", f"{number:064x}") for number in range(600)]


@pytest.fixture
def table(tmp_path):
    """A function that writes examples to a file of their own."""

    def write(rows, raw=bytes) -> Examples:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        examples.write(path, rows, raw=raw)
        return Examples(path)

    return write


@pytest.mark.parametrize(("rows", "raw"), [(PICTURES, bytes), (REVIEWS, str), ([], bytes)])
def test_examples_round_trip(table, rows, raw):
    assert list(table(iter(rows), raw)) == rows


def test_splits_are_read_in_order(table):
    written = table(PICTURES)
    assert list(written.of("train")) == [PICTURES[0], PICTURES[2]]
    assert list(written.of("train", "test")) == PICTURES
    assert list(written.of("valid")) == []
    keys = [Key(example.id, example.split, example.label, example.digest) for example in PICTURES]
    assert list(written.keys("test", "train")) == keys
    assert written.count("test", "train") == 3


def test_only_wanted_examples_are_read(table, monkeypatch):
    monkeypatch.setattr("flowerml.data.examples.ROW_GROUP_BYTES", 100)
    splits = ["train"] * 5 + ["test"] + ["train"] * 4
    rows = [Example(str(number), name, "rose", bytes([number]) * 30) for number, name in enumerate(splits)]
    wanted = {rows[5].digest, rows[8].digest, rows[9].digest}
    assert list(table(rows).of("train", where=lambda key: key.digest in wanted)) == rows[8:]


def test_large_table_has_row_groups(table, monkeypatch):
    monkeypatch.setattr("flowerml.data.examples.ROW_GROUP_BYTES", 100)
    rows = [Example(str(number), "train", "rose", bytes(30)) for number in range(10)]
    written = table(rows)
    assert list(written) == rows
    assert pa.parquet.ParquetFile(written.path).num_row_groups == 3


def test_digest_of_an_example():
    assert PICTURES[0].digest == hashlib.sha256(b"\xff\xd8\x00").hexdigest()
    assert REVIEWS[0].digest == hashlib.sha256(REVIEWS[0].raw.encode()).hexdigest()


def test_table_digest_ignores_order(table):
    assert table(PICTURES).digest() == table(reversed(PICTURES)).digest()


@pytest.mark.parametrize("change", [{"id": "rose/3"}, {"split": "valid"}, {"label": "lily"}, {"raw": b"\xff"}])
def test_table_digest_depends_on_content(table, change):
    assert table(PICTURES).digest() != table([replace(PICTURES[0], **change), *PICTURES[1:]]).digest()


def test_digest_of_a_split(table):
    whole, part = table(PICTURES), table(PICTURES[:2])
    assert whole.digest("test") == part.digest("test")
    assert whole.digest("train") != part.digest("train")
    assert whole.digest("train", "test") == whole.digest()


def failing(rows):
    yield from rows
    raise KeyError("the source went away")


def test_failed_table_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        examples.write(tmp_path / "a.parquet", failing(PICTURES), raw=bytes)
    assert list(tmp_path.iterdir()) == []


def test_failed_table_keeps_the_old_one(table):
    written = table(PICTURES)
    with pytest.raises(KeyError):
        examples.write(written.path, failing(PICTURES[:1]), raw=bytes)
    assert list(written) == PICTURES
    assert list(written.path.parent.iterdir()) == [written.path]


def test_failed_encoding_leaves_nothing(tmp_path):
    rows = failing([(KEYS[0], {"ids": np.zeros(3, np.int32)})])
    with pytest.raises(KeyError):
        encodings.write(tmp_path / "a.arrow", rows, columns={"ids": pa.list_(pa.int32())})
    assert list(tmp_path.iterdir()) == []


def test_encodings_of_views_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((1 + number % 4, 5), dtype=np.float32) for number in range(len(KEYS))]
    rows = zip(KEYS, ({"features": value} for value in values), strict=True)
    encodings.write(tmp_path / "a.arrow", rows, columns={"features": pa.list_(pa.list_(pa.float32(), 5))})
    encoded = Encoded.read(tmp_path / "a.arrow").table
    assert encoded.column("id").to_pylist() == [key.id for key in KEYS]
    for stored, value in zip(encoded.column("features"), values, strict=True):
        np.testing.assert_array_equal(np.array(stored.as_py(), np.float32), value)


def test_ragged_encodings_round_trip(tmp_path):
    values = [np.arange(number % 7, dtype=np.int32) for number in range(len(KEYS))]
    columns = {"stems": pa.list_(pa.int32()), "words": pa.list_(pa.int32())}
    rows = zip(KEYS, ({"stems": value, "words": value + 1} for value in values), strict=True)
    encodings.write(tmp_path / "a.arrow", rows, columns=columns)
    encoded = Encoded.read(tmp_path / "a.arrow")
    assert encoded.of("valid", "stems").to_pylist() == [value.tolist() for value in values[::3]]
    assert encoded.of("valid", "words").to_pylist() == [(value + 1).tolist() for value in values[::3]]


def test_classes_are_sorted_as_text(tmp_path):
    labels = [("10", "train"), ("9", "train"), ("9", "valid"), ("10", "valid"), ("8", "valid")]
    rows = [(Key(f"{i}", split, label, ""), {"ids": np.zeros(1, np.int32)}) for i, (label, split) in enumerate(labels)]
    encodings.write(tmp_path / "a.arrow", rows[:4], columns={"ids": pa.list_(pa.int32())})
    encoded = Encoded.read(tmp_path / "a.arrow")
    assert encoded.classes == ("10", "9")
    assert encoded.targets("valid", encoded.classes).tolist() == [1, 0]
