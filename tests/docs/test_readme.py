"""The README stays short, and says first what matters."""

import re
from statistics import median
from xml.etree import ElementTree

from tests.support.project import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = "\n".join(README.splitlines()[:30])
IMAGE = re.compile(r"!\[[^]]*\]\(([^)]+)\)|<img[^>]* src=\"([^\"]+)\"")
ABOVE_PROSE = re.compile(r"\s*(#|\||<|!\[|[-*] |\d+\. )")


def test_readme_has_at_most_120_lines():
    assert len(README.splitlines()) <= 120


def test_readme_has_at_most_900_words():
    assert len(README.split()) <= 900


def test_first_screen_says_what_it_is_and_how_to_start():
    assert "Train, track, register and serve" in FIRST_SCREEN
    assert "pip install 'flowerml[train]'" in FIRST_SCREEN
    assert "flowerml train my_pictures/" in FIRST_SCREEN


def test_readme_names_the_two_commands_of_this_repository():
    lines = [line.split("#")[0].strip() for line in README.splitlines()]

    assert "make repro" in lines and "make test" in lines


def test_paragraphs_are_short():
    assert median(len(paragraph.split()) for paragraph in prose(README)) <= 20


def test_pictures_are_small():
    pictures = [REPOSITORY / (one or other) for one, other in IMAGE.findall(README)]

    assert pictures
    assert [
        str(path) for path in pictures if path.stat().st_size > (200_000 if path.suffix == ".svg" else 150_000)
    ] == []


def test_recording_asks_no_other_host():
    recording = REPOSITORY / "docs" / "images" / "recording.svg"
    text = recording.read_text(encoding="utf-8")

    ElementTree.fromstring(text)
    assert re.findall(r"https?://[^\"' )<]+", text) == ["http://www.w3.org/2000/svg"]
    assert "test: accuracy" in text


def prose(text: str) -> list[str]:
    """Return the paragraphs that are neither headings, lists, tables, pictures nor code."""
    blocks = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).split("\n\n")
    return [block for block in blocks if block.strip() and not ABOVE_PROSE.match(block.strip())]
