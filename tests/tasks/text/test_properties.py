"""The properties of texts, by which an evaluation slices them."""

import pytest

from flowerml.tasks.registry import TASKS


@pytest.mark.parametrize(
    ("text", "negation", "words"),
    [
        ("I did not like it.", "yes", 5),
        ("It isn’t bad.", "yes", 3),
        ("Nothing<br />works", "yes", 2),
        ("A notable film, annoying as it is.", "no", 7),
        ("...", "no", 0),
    ],
)
def test_length_and_negation(text, negation, words):
    properties = TASKS["text"].properties(text)
    assert (properties["negation"], properties["words"]) == (negation, words)


@pytest.mark.parametrize(
    ("text", "capitals"), [("NO, <B>never</B>!", 100 * 2 / 7), ("没有", 0), ("123", 0), ("ÄÖ", 100)]
)
def test_capitals(text, capitals):
    assert TASKS["text"].properties(text)["capitals in 100 letters"] == pytest.approx(capitals)
