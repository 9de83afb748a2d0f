"""Any bytes as a table of texts: its rows are listed, or a DataError of one line is raised."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowerml.core.errors import DataError
from flowerml.tasks import text
from tests.support.properties import changed, changes, few, in_time

SECTION = SimpleNamespace(text_column="text", label_column="label", split_column="split", group_column=None)
ROWS = [
    {"text": "A good film.", "label": "pos", "split": "train"},
    {"text": 'Dull, "long"\nand slow. é', "label": "neg", "split": ""},
]
cells = st.text(max_size=30) | st.none() | st.integers() | st.floats() | st.booleans() | st.lists(st.integers())
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(("text", "label", "split"), cells)), min_size=1, max_size=4)


def parquet(table: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    table.to_parquet(file)
    return file.getvalue()


TABLES = {
    ".csv": pd.DataFrame(ROWS).to_csv(index=False).encode(),
    ".tsv": pd.DataFrame(ROWS).to_csv(index=False, sep="\t").encode(),
    ".jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    ".parquet": parquet(pd.DataFrame(ROWS)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tables")


def check(folder: Path, suffix: str, content: bytes) -> None:
    """List and read the rows; only a DataError of one line may be raised."""
    path = folder / f"table{suffix}"
    path.write_bytes(content)
    with in_time():
        try:
            listing = text.listing(path, SECTION)
            wanted = {row.id for row in listing.rows}
            assert {name for name, _ in text.contents(path, SECTION, wanted)} == wanted
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert all(isinstance(row.label, str) and row.label for row in listing.rows)


@few
@given(st.sampled_from(sorted(TABLES)), changes)
def test_damaged_tables(folder, suffix, changes):
    check(folder, suffix, changed(TABLES[suffix], changes))


@few
@given(st.sampled_from(sorted(TABLES)), st.binary() | st.text().map(str.encode))
def test_random_bytes(folder, suffix, content):
    check(folder, suffix, content)


@few
@given(rows)
def test_cells_of_any_type(folder, rows):
    check(folder, ".jsonl", "\n".join(map(json.dumps, rows)).encode())


@few
@given(st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]))] * 3), max_size=4))
def test_cells_of_any_text(folder, rows):
    check(folder, ".csv", pd.DataFrame(rows, columns=["text", "label", "split"]).to_csv(index=False).encode())
