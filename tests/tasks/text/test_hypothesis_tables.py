"""Any bytes as a table of texts: its rows are listed, or a DataError of one line is raised; no row is lost or mixed."""

import csv
import gzip
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowerml.core.errors import DataError
from flowerml.data.layout import Listing
from flowerml.tasks import text
from flowerml.tasks.text.sections import Limits
from tests.support.properties import changed, changes, few, in_time

LIMITS = Limits(members=100, member_bytes=10**7, unpacked_bytes=10**9, characters=1_000_000)
SECTION = SimpleNamespace(
    text_column="text", label_column="label", split_column="split", group_column=None, limits=LIMITS
)
ROWS = [
    {"text": "A good film.", "label": "pos", "split": "train"},
    {"text": 'Dull, "long"\nand slow. é', "label": "neg", "split": ""},
]
SEPARATORS = {".csv": ",", ".tsv": "\t", ".psv": "|"}
cells = st.text(max_size=30) | st.none() | st.integers() | st.floats() | st.booleans() | st.lists(st.integers())
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(("text", "label", "split"), cells)), min_size=1, max_size=4)
# What a CSV can hold: Unicode but surrogates, without the zero that only binary files have.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
pieces = st.lists(
    st.sampled_from(["good", "film", '"', '""', ",", "\t", ";", "\n", "\r\n", "pos", "é", " "]), max_size=12
)
labels = st.sampled_from(["pos", "neg", "so so"])


def parquet(table: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    table.to_parquet(file)
    return file.getvalue()


TABLES = {
    ".csv": pd.DataFrame(ROWS).to_csv(index=False).encode(),
    ".tsv": pd.DataFrame(ROWS).to_csv(index=False, sep="\t").encode("utf-16"),
    ".csv.gz": gzip.compress(pd.DataFrame(ROWS).to_csv(index=False, sep=";").encode("cp1252"), mtime=0),
    ".jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    ".json": json.dumps(ROWS, indent=1).encode(),
    ".parquet": parquet(pd.DataFrame(ROWS)),
    ".xlsx": b"PK\x03\x04",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tables")


def listed(folder: Path, suffix: str, content: bytes) -> Listing | None:
    """List and read the rows; only a DataError of one line may be raised."""
    path = folder / f"table{suffix}"
    path.write_bytes(content)
    with in_time():
        try:
            listing = text.listing(path, SECTION)
            wanted = {row.id for row in listing.rows}
            assert {name for name, _ in text.contents(path, SECTION, wanted)} == wanted
        except DataError as error:
            assert str(error).isprintable()
            return None
    assert all(isinstance(row.label, str) and row.label.strip() for row in listing.rows)
    assert all(warning.isprintable() for warning in listing.warnings)
    return listing


@few
@given(st.sampled_from(sorted(TABLES)), changes)
def test_damaged_tables(folder, suffix, changes):
    listed(folder, suffix, changed(TABLES[suffix], changes))


@few
@given(st.sampled_from(sorted(TABLES)), st.binary() | st.text().map(str.encode))
def test_random_bytes(folder, suffix, content):
    listed(folder, suffix, content)


@few
@given(st.sampled_from([".jsonl", ".json"]), rows)
def test_cells_of_any_type(folder, suffix, rows):
    content = json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows))
    listed(folder, suffix, content.encode())


def write(rows: list[tuple[str, str]], separator: str, line_end: str, quoting: int) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=line_end, quoting=quoting)
    writer.writerows([("text", "label", "split"), *((*row, "train") for row in rows)])
    return file.getvalue()


@few
@given(
    st.sampled_from(sorted(SEPARATORS)),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.lists(st.tuples(texts | pieces.map("".join), labels), min_size=1, max_size=5),
)
def test_written_rows_are_read(folder, suffix, separator, line_end, quoting, encoding, rows):
    content = write(rows, separator, line_end, quoting).encode(encoding)
    listing = listed(folder, suffix, content)
    if listing is None:  # refused, as lines of a text may look like rows: never read as something else
        return
    path = folder / f"table{suffix}"
    read = dict(text.contents(path, SECTION, {row.id for row in listing.rows}))
    assert [(read[row.id].decode(), row.label) for row in listing.rows] == rows


@few
@given(
    st.lists(st.tuples(st.integers(0, 3), labels), min_size=4, max_size=12),
    st.sets(st.integers(0, 11), max_size=4),
    st.sampled_from(["start", "end", "both", "middle"]),
    st.sampled_from([".csv", ".tsv"]),
)
def test_lonely_quotes_lose_no_row(folder, rows, places, where, suffix):
    forms = {"start": '"{}', "end": '{}"', "both": '"{}"', "middle": 'a "{}'}
    written = [
        (forms[where].format(f"film {place} {number}") if place in places else f"film {place} {number}", label)
        for place, (number, label) in enumerate(rows)
    ]
    content = "".join(SEPARATORS[suffix].join((*row, "train")) + "\n" for row in [("text", "label"), *written])
    listing = listed(
        folder, suffix, content.replace("label,train", "label,split").replace("label\ttrain", "label\tsplit").encode()
    )
    assert listing is None or len(listing.rows) == len(rows)
