"""Text for a person: one line, bounded, nothing a terminal would obey."""

import doctest
from pathlib import Path

import pytest

from flowerml.core import display
from flowerml.core.display import (
    closest,
    did_you_mean,
    display_path,
    format_size,
    one_line,
    preview_list,
    printable,
    truncate,
)


def test_display_examples():
    failed, tried = doctest.testmod(display)
    assert tried and not failed


def test_printable_names():
    assert printable("Größe 3.jpg") == "Größe 3.jpg"
    assert printable("a\n\x1b[31m\u202eb\udcff") == r"a\n\x1b[31m\u202eb\udcff"
    assert len(printable("\0" * 10**6)) == len(printable("x" * 10**6)) == 300


def test_printable_keeps_both_ends():
    text = printable("start" + "x" * 1000 + ".jpg")
    assert text.startswith("start") and text.endswith(".jpg") and "…" in text


def test_printable_without_limit():
    assert printable("\0" * 1000, limit=None) == r"\x00" * 1000


@pytest.mark.parametrize(
    ("value", "limit", "line"),
    [
        (ValueError("no\r\n\t such  table "), None, "no such table"),
        ("", 5, ""),
        ("one two", 5, "one t"),
        (12, None, "12"),
    ],
)
def test_one_line(value, limit, line):
    assert one_line(value, limit) == line


@pytest.mark.parametrize(("text", "short"), [("rose", "rose"), ("roses", "ros…"), ("", "")])
def test_truncate(text, short):
    assert truncate(text, 4) == short


def test_preview_list():
    assert preview_list(["a", "b"], 2) == "a, b"
    assert preview_list(("a", "b", "c"), 2) == "a, b, …"
    assert preview_list([]) == ""


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (2**28, "256 MiB"),
        (3 * 2**30, "3 GiB"),
        (2**50, "1024 TiB"),
    ],
)
def test_format_size(size, text):
    assert format_size(size) == text


def test_path_of_a_link(tmp_path):
    target = tmp_path / "a\nb"
    target.touch()
    link = tmp_path / "link"
    link.symlink_to(target)
    assert display_path(link) == f"{Path(tmp_path).resolve()}/a\\nb"


def test_did_you_mean():
    assert did_you_mean("flowers12", ["sample", "flowers102"]) == "did you mean 'flowers102'?"
    assert did_you_mean("zzz", ["sample", "flowers102"]) == ""
    assert did_you_mean(1, []) == ""


def test_closest_first():
    assert closest("lek", ["leaks", "leak", "duplicate"], count=2) == ["leak", "leaks"]
