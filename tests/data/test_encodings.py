"""Rows of a column of encodings, read one by one."""

import numpy as np
import pyarrow as pa
import pytest

from flowerml.data import encodings
from flowerml.data.encodings import Encoded, writer
from flowerml.data.examples import Key

COLUMNS = {
    "pictures": pa.list_(pa.uint8()),
    "activations": pa.list_(pa.list_(pa.float16(), 3)),
}


@pytest.fixture
def rows(monkeypatch):
    """Return examples of both splits in turn, written three to a record batch."""
    monkeypatch.setattr(writer, "ROWS", 3)
    rng = np.random.default_rng(0)
    return [
        (
            Key(str(number), "valid" if number % 3 == 1 else "train", "rose", f"digest {number}"),
            {
                "pictures": rng.integers(0, 256, number + 1, dtype=np.uint8),
                "activations": rng.standard_normal((1 + number % 2, 3)).astype(np.float16),
            },
        )
        for number in range(10)
    ]


@pytest.fixture
def encoded(rows, tmp_path):
    encodings.write(tmp_path / "encoded.arrow", rows, columns=COLUMNS)
    return Encoded.read(tmp_path / "encoded.arrow")


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("split", ["train", "valid"])
def test_each_row_is_as_written(rows, encoded, split, column):
    values = encoded.row_values(split, column)
    expected = [row[column] for key, row in rows if key.split == split]
    assert len(values) == len(expected)
    for number, array in enumerate(expected):
        np.testing.assert_array_equal(values[number], array)
        assert values[number].dtype == array.dtype


def test_rows_are_views_of_the_file(encoded):
    values = encoded.row_values("train", "pictures")
    assert not values[3].flags.owndata and np.shares_memory(values[3], values[3])
    assert not values[3].flags.writeable


def test_a_split_without_rows_is_empty(encoded):
    assert len(encoded.row_values("test", "pictures")) == 0
