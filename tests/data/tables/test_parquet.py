"""Parquet: labels as they are spelled, and types that are no class."""

import io
from datetime import date

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowerml.core.errors import DataError
from tests.data.tables.conftest import pairs


def parquet(labels, texts=None) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["text"] * len(labels) if texts is None else texts, "label": labels}), file)
    return file.getvalue()


def labels(table):
    return [label for _, label in pairs(table)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0, 1, None], ["0", "1", None]),
        ([2**53 + 1, None], ["9007199254740993", None]),
        ([0.0, 1.0, float("nan")], ["0", "1", None]),  # integers beside a missing one, as pandas writes them
        ([0.0, 1.0], ["0.0", "1.0"]),
        ([0.5, 1.0, None], ["0.5", "1.0", None]),
        ([True, False], ["True", "False"]),
        (["a", None], ["a", None]),
    ],
)
def test_labels_keep_their_spelling(opened, given, expected):
    assert labels(opened("a.parquet", parquet(pa.array(given)))) == expected


def test_categories_are_labels(opened):
    column = pa.array(["pos", "neg"]).dictionary_encode()
    assert labels(opened("a.parquet", parquet(column))) == ["pos", "neg"]


def test_frame_of_pandas_is_read(opened):
    file = io.BytesIO()
    pd.DataFrame({"text": ["a", "b"], "label": ["pos", None]}, index=[3, 7]).to_parquet(file)
    assert pairs(opened("a.parquet", file.getvalue())) == [("a", "pos"), ("b", None)]


@pytest.mark.parametrize("given", [[["pos", "film"]], [{"stars": 5}], [date(2026, 1, 1)]])
def test_other_types_are_refused(opened, given):
    with pytest.raises(
        DataError, match=r"column 'label' is of type .*; expected text or whole numbers, one class a row"
    ):
        opened("a.parquet", parquet(pa.array(given)))


def test_broken_file_is_refused(opened):
    with pytest.raises(DataError, match=r"cannot be read as parquet .*; write it again, or as \.csv"):
        opened("a.parquet", parquet(["a"])[:-8] + b"PAR1PAR1")


def test_spreadsheets_are_refused(opened):
    with pytest.raises(DataError, match="spreadsheets are not read; save the sheet as CSV"):
        opened("a.xlsx", b"PK\x03\x04")
