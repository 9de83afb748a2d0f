"""Encodings in parts, and encodings that were killed half-way."""

import resource
import shutil
import signal
from functools import partial

import pytest
from tqdm import tqdm

from flowerml.data import encodings, examples
from flowerml.data.encodings import Encoded, Unfinished, writer
from flowerml.data.examples import Examples
from flowerml.pipeline import encode as encoding
from tests.pipeline.test_encode import PICTURES, encoder, section


@pytest.fixture
def table(tmp_path):
    examples.write(tmp_path / "examples.parquet", PICTURES, raw=bytes)
    return Examples(tmp_path / "examples.parquet")


@pytest.fixture
def in_parts(tmp_path, monkeypatch):
    """Return the same examples as a folder of parts of four."""
    size = len(PICTURES[0].raw)
    monkeypatch.setattr(examples, "ROW_GROUP_BYTES", 2 * size)
    monkeypatch.setattr(examples, "PART_BYTES", 4 * size)
    examples.write(tmp_path / "parts.parquet", PICTURES, raw=bytes)
    monkeypatch.undo()
    return Examples(tmp_path / "parts.parquet")


@pytest.fixture
def batches(monkeypatch):
    monkeypatch.setattr(writer, "ROWS", 2)


class Killed(BaseException):
    """As if the process ended here."""


class Fragile:
    """An encoder that ends its process after some rows."""

    def __init__(self, rows: int) -> None:
        self._encoder, self._rows = encoder(), rows

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode(self, *arguments, **options):
        for number, row in enumerate(self._encoder.encode(*arguments, **options)):
            if number == self._rows:
                raise Killed
            yield row


def run(path, table, encoder=None, rows=None):
    """Encode, killed after some rows if these are given."""
    if rows is None:
        return encoding.encode(path, table, encoder or globals()["encoder"](), section())
    with pytest.raises(Killed):
        encoding.encode(path, table, Fragile(rows), section())
    return None


def test_parts_follow_those_of_the_examples(table, in_parts, tmp_path):
    run(tmp_path / "whole.arrow", table)
    run(tmp_path / "encoded.arrow", in_parts)
    whole, parts = Encoded.read(tmp_path / "whole.arrow"), Encoded.read(tmp_path / "encoded.arrow")
    assert [path.name for path in sorted((tmp_path / "encoded.arrow").iterdir())] == [
        "part-00000.arrow",
        "part-00001.arrow",
        "part-00002.arrow",
    ]
    assert parts.table.to_pylist() == whole.table.to_pylist()


def test_file_becomes_folder_and_back(table, in_parts, tmp_path):
    path = tmp_path / "encoded.arrow"
    run(path, table)
    content = path.read_bytes()
    assert run(path, in_parts).unchanged == len(PICTURES) and path.is_dir()
    assert run(path, table).unchanged == len(PICTURES) and path.read_bytes() == content


def test_a_folder_that_lost_its_end_is_refused(in_parts, tmp_path):
    run(tmp_path / "encoded.arrow", in_parts)
    (tmp_path / "encoded.arrow" / "part-00002.arrow").unlink()
    with pytest.raises(encoding.DataError, match="expected 3 parts, found no part-00002"):
        Encoded.read(tmp_path / "encoded.arrow")
    report = run(tmp_path / "encoded.arrow", in_parts)
    assert (report.encoded, report.unchanged) == (3, 8)


@pytest.mark.parametrize("rows", [1, 5, 10])
@pytest.mark.parametrize("parts", [False, True])
def test_killed_encoding_goes_on(table, in_parts, batches, tmp_path, rows, parts):
    chosen = in_parts if parts else table
    run(tmp_path / "scratch.arrow", chosen)
    path = tmp_path / "encoded.arrow"
    run(path, chosen, rows=rows)
    assert not path.exists() and Unfinished.of(path).folder.is_dir()
    report = run(path, chosen)
    assert report.unchanged >= rows - rows % 2 - 2 * parts and report.unchanged <= rows
    assert contents(path) == contents(tmp_path / "scratch.arrow")
    assert not Unfinished.of(path).folder.exists()


def test_encoding_cut_off_anywhere_goes_on(table, batches, tmp_path):
    path = tmp_path / "encoded.arrow"
    run(path, table)
    content, part = path.read_bytes(), Unfinished.of(path).folder / "part-00000.arrow"
    reused = []
    for end in range(0, len(content), len(content) // 15):
        path.unlink()
        part.parent.mkdir()
        part.write_bytes(content[:end])
        reused.append(run(path, table).unchanged)
        assert path.read_bytes() == content
    assert reused == sorted(reused) and reused[0] == 0 and reused[-1] >= 8


def test_killed_again_and_again(table, batches, tmp_path):
    path = tmp_path / "encoded.arrow"
    for rows in (4, 0, 2, 1, 2):
        run(path, table, rows=rows)
        assert len(list(Unfinished.of(path).folder.iterdir())) <= 4
    assert run(path, table).unchanged >= 6


def test_rows_of_other_parameters_are_not_taken_up(table, batches, tmp_path):
    path = tmp_path / "encoded.arrow"
    run(path, table, rows=8)
    assert encoding.encode(path, table, encoder(), section(views=2)).unchanged <= 2  # validation pictures
    assert not Unfinished.of(path).folder.exists()


def test_an_error_keeps_the_former_encodings(table, batches, tmp_path):
    path = tmp_path / "encoded.arrow"
    run(path, table)
    content = path.read_bytes()
    shutil.copy(path, tmp_path / "kept")
    encodings.write(path, [], columns=encoder().columns, fingerprints={})
    empty = path.read_bytes()
    run(path, table, rows=5)
    assert path.read_bytes() == empty
    run(path, table)
    assert path.read_bytes() == content


def test_rows_of_an_old_file_are_read(table, tmp_path):
    path = tmp_path / "encoded.arrow"
    run(path, table)
    (tmp_path / "folder").mkdir()
    path.rename(tmp_path / "folder" / "part-00000.arrow")  # a folder of one part
    (tmp_path / "folder").rename(path)
    assert run(path, table).unchanged == len(PICTURES) and path.is_file()


def contents(path):
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    return [part.read_bytes() for part in paths]


def test_a_full_disk_names_the_encodings(table, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "tqdm", partial(tqdm, disable=True))  # pytest keeps its output in a file
    path, made, limits = tmp_path / "encoded.arrow", encoder(), resource.getrlimit(resource.RLIMIT_FSIZE)
    made.fingerprint(section(), "train")  # exports its graph to a file
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match="File too large") as error:
            run(path, table, made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert error.value.filename == str(path) and not path.exists()
    run(path, table)
    assert path.is_file()
