"""The preprocessing of texts with the standard library and NumPy: clean, split, drop stop words, stem, look up."""

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import islice
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flowerml.core import schema
from flowerml.core.errors import InputError, ModelError
from flowerml.tasks.text.encoder.cleaning import Cleaning, Memo
from flowerml.tasks.text.encoder.tokens import TOKENIZER, Tokens
from flowerml.tasks.text.encoder.vocabulary import FIRST, INFREQUENT, NO_WORD, Vocabulary

MAX_CHARACTERS = 1_000_000
LENGTH = schema.whole(1, 10**9)  # a text of this many characters is never read
BACKBONE = schema.record(
    {
        "name": schema.text(4096),
        "family": schema.text(100),
        "config": schema.mapping(schema.plain),
        "pooling": schema.text(20),
        "normalize": schema.flag,
        "features": schema.whole(1, 10**6),
        "licence": schema.nullable(schema.text(100)),
        "max_tokens": schema.whole(2, 10**6),
        "prefix": schema.string(1000),
    }
)
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
    {"max_characters": LENGTH, "characters": LENGTH, "backbone": BACKBONE},
)

Sequences = dict[str, NDArray[Any]]

_TOKEN = re.compile(r"\w+(?:'\w+)*|\S")


@dataclass(frozen=True)
class Preprocessing:
    """A function from a text to integer sequences: codes of its stems, and hashes of its raw words and punctuation.

    With `characters` > 0 there are also at most so many characters, of the same words, and with `tokens` ids of the
    tokens that a pretrained encoder reads. Texts of more than `max_characters` raise InputError.

    >>> cleaning = Cleaning(strip_html=True, lower_case=True, letters_and_digits=True, stop_words="drop", stem=True)
    >>> preprocessing = Preprocessing(cleaning, Vocabulary(("good", "film")), max_length=500, max_words=1500)
    >>> preprocessing.transform("A very good film!")["stems"].tolist()
    [2, 3]
    """

    cleaning: Cleaning
    vocabulary: Vocabulary
    max_length: int
    max_words: int
    max_characters: int = MAX_CHARACTERS
    characters: int = 0
    tokens: Tokens | None = None

    @property
    def MAX_BATCH(self) -> int:
        """The maximal number of texts in one pass.

        In a batch of eight a text takes the LSTM a third of the time that it takes alone; larger batches gain nothing.
        A transformer is fastest with one text on each core, as none is padded.
        """
        return 8 if self.tokens is None else 1

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that prediction needs besides those of every classifier."""
        return () if self.tokens is None else ("tokenizers",)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the graph's inputs, in order."""
        return tuple(self.collate([self.sequences("")]))

    @property
    def codes(self) -> int:
        """Return the number of codes, including those of padding and of infrequent stems."""
        return len(self.vocabulary.stems) + FIRST

    def transform(self, raw: str) -> Sequences:
        """Return one text as {"stems": [T], "words": [W]}, int32, 1 to `max_length` and `max_words` long.

        It has {"characters": [1 to `characters`]} and {"tokens": [1 to max_tokens]} too, where there are any.
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
        words = _tokens(" ".join(lines))
        hashes = map(_HASHES.__getitem__, words)
        sequences = {"stems": _array(codes, self.max_length), "words": _array(hashes, self.max_words)}
        if self.characters:
            sequences["characters"] = _characters(words, self.characters)
        # Case and punctuation say much to a pretrained encoder, so it reads the text without HTML, not the stems.
        return sequences if self.tokens is None else {**sequences, "tokens": self.tokens.ids(" ".join(lines))}

    def collate(self, prepared: list[Sequences]) -> Sequences:
        """Return prepared texts as the inputs of the graph, int64: stems [B, T], stem_lengths [B], words, word_lengths.

        Likewise characters and tokens, where there are any. Shorter texts are padded with 0 on the right.
        """
        inputs: Sequences = {}
        for name in prepared[0]:
            padded, lengths = _padded([sequences[name] for sequences in prepared])
            inputs |= {name: padded, f"{name.removesuffix('s')}_lengths": lengths}
        return inputs

    def random_inputs(self, count: int, *, seed: int) -> Sequences:
        """Return inputs to trace and check the graph with; another count gives other lengths."""
        rng = np.random.default_rng(seed)
        # Many stems are words of real texts too, so the n-gram table contains some of these hashes.
        words = self.vocabulary.stems or ("",)
        rows = []
        for row in range(count):
            stems = rng.integers(1, self.codes, 5 + 2 * row)
            drawn = [words[number] for number in rng.integers(0, len(words), 7 + 3 * row)]
            sequences = {"stems": stems, "words": np.array([hash_token(word) for word in drawn])}
            if self.characters:
                sequences["characters"] = _characters(drawn, self.characters)
            if self.tokens is not None:
                sequences["tokens"] = rng.integers(0, self.tokens.size, 5 + 2 * row)
            rows.append(sequences)
        return self.collate(rows)

    def visualize(self, prepared: Sequences) -> str:
        """Return the stems of a prepared text, "<infrequent>" for those without a code."""
        return " ".join(self.vocabulary.stem(code) for code in prepared["stems"] if code != NO_WORD)

    def state(self) -> dict[str, Any]:
        """Return the preprocessing as plain data."""
        state = {
            "cleaning": asdict(self.cleaning),
            "vocabulary": list(self.vocabulary.stems),
            "max_length": self.max_length,
            "max_words": self.max_words,
            "max_characters": self.max_characters,
        }
        return {**state, "characters": self.characters} if self.characters else state

    def assets(self) -> dict[str, bytes]:
        """Return the files that prediction needs besides the state, by name."""
        return {} if self.tokens is None else {TOKENIZER: self.tokens.content}

    @classmethod
    def from_state(cls, state: dict[str, Any], assets: Mapping[str, bytes]) -> Self:
        """Return the preprocessing that `state()` and `assets()` described; raises ModelError for others."""
        STATE(state, "encoder")
        return cls(
            cleaning=Cleaning(**{field.name: state["cleaning"][field.name] for field in fields(Cleaning)}),
            vocabulary=Vocabulary(tuple(state["vocabulary"])),
            max_length=state["max_length"],
            max_words=state["max_words"],
            max_characters=state.get("max_characters", MAX_CHARACTERS),
            characters=state.get("characters", 0),
            tokens=_tokens_of(state["backbone"], assets) if "backbone" in state else None,
        )

    @cached_property
    def _codes(self) -> Memo[int]:
        return Memo(self._code)

    def _code(self, word: str) -> int:
        """Return the code of a word's stem, 0 for a word that is dropped."""
        stem = self.cleaning.reduced(word)
        return NO_WORD if stem is None else self.vocabulary.code(stem)


def _tokens_of(backbone: Mapping[str, Any], assets: Mapping[str, bytes]) -> Tokens:
    if TOKENIZER not in assets:
        raise ModelError(f"{TOKENIZER} is missing, which its encoder reads texts with")
    return Tokens(assets[TOKENIZER], backbone["max_tokens"], backbone["prefix"])


def _tokens(text: str) -> list[str]:
    """Return words and punctuation marks in lower case; underscores become spaces, ’ becomes '."""
    return _TOKEN.findall(text.lower().replace("’", "'").replace("_", " "))


def hash_token(token: str) -> int:
    """Return a stateless hash of a token, from 1 to 2^31 - 1."""
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF or 1


_HASHES = Memo(hash_token)


def _characters(words: list[str], limit: int) -> NDArray[np.int32]:
    """Return the first code points of the words, with a space before, between and after them."""
    spaced = " ".join(["", *words[:limit], ""])[:limit]
    return np.frombuffer(spaced.encode("utf-32-le", "surrogatepass"), np.dtype("<i4")).astype(np.int32)


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
