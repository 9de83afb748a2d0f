"""The preprocessing of texts with the standard library and NumPy: clean, split, drop stop words, stem, look up."""

import re
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from flowerml.core import schema
from flowerml.core.errors import InputError
from flowerml.tasks.text.encoder.cleaning import Cleaning, Memo
from flowerml.tasks.text.encoder.vocabulary import FIRST, INFREQUENT, NO_WORD, Vocabulary

MAX_CHARACTERS = 1_000_000
LENGTH = schema.whole(1, 10**9)  # a text of this many characters is never read
STATE = schema.record(
    {
        "cleaning": schema.record(
            {
                "strip_html": schema.flag,
                "lower_case": schema.flag,
                "letters_and_digits": schema.flag,
                "stop_words": schema.choice(("drop", "keep_negations", "keep")),
                "stem": schema.flag,
            }
        ),
        "vocabulary": schema.items(schema.text(10**6), 0, 10**7),
        "max_length": LENGTH,
        "max_words": LENGTH,
    },
    {"max_characters": LENGTH},
)

Sequences = dict[str, NDArray[Any]]

_TOKEN = re.compile(r"\w+(?:'\w+)*|\S")


@dataclass(frozen=True)
class Preprocessing:
    """A function from a text to two integer sequences: codes of its stems, and hashes of its raw words and punctuation.

    Texts of more than `max_characters` raise InputError.

    >>> cleaning = Cleaning(strip_html=True, lower_case=True, letters_and_digits=True, stop_words="drop", stem=True)
    >>> preprocessing = Preprocessing(cleaning, Vocabulary(("good", "film")), max_length=500, max_words=1500)
    >>> preprocessing.transform("A very good film!")["stems"].tolist()
    [2, 3]
    """

    # In a batch of eight a text takes the LSTM a third of the time that it takes alone; larger batches gain nothing.
    MAX_BATCH: ClassVar[int] = 8

    cleaning: Cleaning
    vocabulary: Vocabulary
    max_length: int
    max_words: int
    max_characters: int = MAX_CHARACTERS

    @property
    def codes(self) -> int:
        """Return the number of codes, including those of padding and of infrequent stems."""
        return len(self.vocabulary.stems) + FIRST

    def transform(self, raw: str) -> Sequences:
        """Return one text as {"stems": [T], "words": [W]}, int32, 1 to `max_length` and `max_words` long.

        Raises InputError `unknown_input` if it is not a str, `empty_text`, and `text_too_long` above `max_characters`.
        """
        if not isinstance(raw, str):
            raise InputError("unknown_input", f"expected a text, found {type(raw).__name__}")
        if not raw.strip():
            raise InputError("empty_text", "expected a text, found an empty one")
        if len(raw) > self.max_characters:
            raise InputError(
                "text_too_long",
                f"expected at most {self.max_characters:,} characters, found {len(raw):,}; shorten the text",
            )
        return self.sequences(raw)

    def sequences(self, raw: str) -> Sequences:
        """Return the sequences of any text, without checks; an empty text is encoded as one infrequent word."""
        lines = self.cleaning.lines(raw)
        codes = filter(None, map(self._codes.__getitem__, self.cleaning.words(lines)))
        hashes = map(_HASHES.__getitem__, _tokens(" ".join(lines)))
        return {"stems": _array(codes, self.max_length), "words": _array(hashes, self.max_words)}

    def collate(self, prepared: list[Sequences]) -> Sequences:
        """Return prepared texts as the inputs of the graph, int64: stems [B, T], stem_lengths [B], words, word_lengths.

        Shorter texts are padded with 0 on the right.
        """
        stems, stem_lengths = _padded([sequences["stems"] for sequences in prepared])
        words, word_lengths = _padded([sequences["words"] for sequences in prepared])
        return {"stems": stems, "stem_lengths": stem_lengths, "words": words, "word_lengths": word_lengths}

    def random_inputs(self, count: int, *, seed: int) -> Sequences:
        """Return inputs to trace and check the graph with; another count gives other lengths."""
        rng = np.random.default_rng(seed)
        # Many stems are words of real texts too, so the n-gram table contains some of these hashes.
        words = [_hash(stem) for stem in self.vocabulary.stems] or [1]
        rows = ((rng.integers(1, self.codes, 5 + 2 * row), rng.choice(words, 7 + 3 * row)) for row in range(count))
        return self.collate([{"stems": stems, "words": words} for stems, words in rows])

    def visualize(self, prepared: Sequences) -> str:
        """Return the stems of a prepared text, "<infrequent>" for those without a code."""
        return " ".join(self.vocabulary.stem(code) for code in prepared["stems"] if code != NO_WORD)

    def state(self) -> dict[str, Any]:
        """Return the preprocessing as plain data."""
        return {**asdict(self), "vocabulary": list(self.vocabulary.stems)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the preprocessing that `state()` described; raises ModelError for another state."""
        STATE(state, "encoder")
        return cls(
            cleaning=Cleaning(**{field.name: state["cleaning"][field.name] for field in fields(Cleaning)}),
            vocabulary=Vocabulary(tuple(state["vocabulary"])),
            max_length=state["max_length"],
            max_words=state["max_words"],
            max_characters=state.get("max_characters", MAX_CHARACTERS),
        )

    @cached_property
    def _codes(self) -> Memo[int]:
        return Memo(self._code)

    def _code(self, word: str) -> int:
        """Return the code of a word's stem, 0 for a word that is dropped."""
        stem = self.cleaning.reduced(word)
        return NO_WORD if stem is None else self.vocabulary.code(stem)


def _tokens(text: str) -> list[str]:
    """Return words and punctuation marks in lower case; underscores become spaces, ’ becomes '."""
    return _TOKEN.findall(text.lower().replace("’", "'").replace("_", " "))


def _hash(token: str) -> int:
    """Return a stateless hash of a token, from 1 to 2^31 - 1."""
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF or 1


_HASHES = Memo(_hash)


def _array(values: Iterator[int], limit: int) -> NDArray[np.int32]:
    array = np.fromiter(islice(values, limit), np.int32)
    return array if len(array) else np.array([INFREQUENT], np.int32)


def _padded(rows: list[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad rows of any lengths [T] to one array [B, T]; return it and the lengths [B]."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.full((len(rows), lengths.max()), NO_WORD, np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded, lengths
