"""Tokens of texts, and tokenizers that are damaged or hostile."""

import json
import time

import numpy as np
import pytest

from flowerml.core.errors import InputError, ModelError
from flowerml.tasks.text.encoder.tokens import CHARACTERS_PER_TOKEN, Tokens
from tests.support.encoders import SENTENCES, SPECIAL, tokenizer

CONTENT = tokenizer().to_str().encode()
START, END, UNKNOWN = SPECIAL.index("<s>"), SPECIAL.index("</s>"), SPECIAL.index("<unk>")


def changed(**parts: object) -> bytes:
    """Return the tokenizer's file with other values in it."""
    return json.dumps({**json.loads(CONTENT), **parts}).encode()


def test_a_text_is_cut_at_its_most_tokens():
    ids = Tokens(CONTENT, 6).ids(SENTENCES[0])
    assert len(ids) == 6 and (ids[0], ids[-1]) == (START, END)
    assert np.array_equal(ids[:5], Tokens(CONTENT, 24).ids(SENTENCES[0])[:5])


def test_truncation_and_padding_of_the_file_are_ignored():
    made = tokenizer()
    made.enable_truncation(3)
    made.enable_padding(length=40)
    assert np.array_equal(Tokens(made.to_str().encode(), 24).ids("a film"), Tokens(CONTENT, 24).ids("a film"))


def test_a_prefix_comes_first():
    assert np.array_equal(Tokens(CONTENT, 24, "film: ").ids("dull"), Tokens(CONTENT, 24).ids("film: dull"))


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_has_a_token(text):
    assert Tokens(CONTENT, 24).ids(text).tolist() == [START, END]
    assert Tokens(changed(post_processor=None), 24).ids(text).tolist() == [0]


def test_a_lone_surrogate_is_replaced():
    assert np.array_equal(Tokens(CONTENT, 24).ids("a \ud800 film"), Tokens(CONTENT, 24).ids("a ? film"))


def test_emoji_and_other_scripts_are_unknown():
    assert set(Tokens(CONTENT, 24).ids("😀 日本").tolist()) == {START, UNKNOWN, END}


@pytest.mark.parametrize("text", ["x" * 1_000_000, "film " * 200_000, "日本" * 500_000, "😀" * 1_000_000])
def test_a_million_characters_take_no_time(text):
    started = time.process_time()
    assert len(Tokens(CONTENT, 24).ids(text)) <= 24
    assert time.process_time() - started < 1


def test_characters_after_the_limit_are_not_read():
    read = " " * (CHARACTERS_PER_TOKEN * 8 - 4)
    assert len(Tokens(CONTENT, 8).ids(f"{read}film")) == 3
    assert len(Tokens(CONTENT, 8).ids(f"{read}    film")) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        CONTENT[:-5],
        changed(model={"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}),
        changed(model={"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}),
        changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}),
        changed(normalizer=7),
    ],
)
def test_what_is_no_tokenizer_is_refused(content):
    with pytest.raises(ModelError) as error:
        Tokens(content, 24)
    assert str(error.value).startswith("tokenizer.json is no tokenizer: ") and str(error.value).isprintable()


def test_a_normalizer_that_would_fill_the_memory():
    replace = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
    with pytest.raises(ModelError, match="may lengthen a text 100 times and more"):
        Tokens(changed(normalizer={"type": "Sequence", "normalizers": [replace] * 3}), 24)
    with pytest.raises(ModelError, match="may lengthen a text 100 times and more"):
        Tokens(changed(normalizer={**replace, "content": "a" * 3_000_000}), 24)


def test_no_room_beside_special_tokens():
    with pytest.raises(ModelError, match="leave no room for a text in 2"):
        Tokens(CONTENT, 2)


def test_a_pattern_that_never_ends_fails_for_its_text():
    split = {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": False}
    tokens = Tokens(changed(pre_tokenizer=split), 24)
    with pytest.raises(InputError) as error:
        tokens.ids("a" * 45 + "!")
    assert error.value.code == "network_failed" and str(error.value).isprintable()
    assert len(tokens.ids("film")) > 2
