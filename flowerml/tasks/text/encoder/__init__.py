"""The encoder of texts: clean, split, drop stop words, stem, and look up in the dictionary of the training texts.

Predicting uses the standard library and NumPy only.
"""

import platform
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from flowerml.core import files
from flowerml.core.errors import InputError
from flowerml.tasks.text.encoder.cleaning import Cleaning, Memo
from flowerml.tasks.text.encoder.vocabulary import FIRST, INFREQUENT, NO_WORD, Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn

    from flowerml.data.examples import Example

MAX_CHARACTERS = 1_000_000
SEQUENCES = ("stems", "words")

Sequences = dict[str, NDArray[Any]]

_TOKEN = re.compile(r"\w+(?:'\w+)*|\S")


@dataclass(frozen=True)
class Encoder:
    """Turns a text into two sequences of numbers: codes of its stems, and hashes of its raw words and punctuation."""

    # A text in a batch takes an LSTM a third of the time that it takes alone; more than eight gain nothing.
    TOGETHER: ClassVar[int] = 8

    cleaning: Cleaning
    vocabulary: Vocabulary
    max_length: int
    max_words: int
    max_characters: int = MAX_CHARACTERS

    @classmethod
    def fit(cls, examples: "Iterable[Example]", section: Any, limits: Any) -> Self:
        """The encoder that `section` describes, with the most frequent stems of the examples as its dictionary.

        It reads texts of at most `limits.characters`.

        Of `vocab_size` codes two are taken by no word and infrequent; of stems that are equally frequent, the first
        to appear comes first.
        """
        cleaning = Cleaning(**{field.name: getattr(section, field.name) for field in fields(Cleaning)})
        words: Counter[str] = Counter()
        for example in examples:
            words.update(cleaning.words(cleaning.lines(_text(example.raw))))
        stems: Counter[str] = Counter()
        for word, count in words.items():
            if stem := cleaning.reduced(word):
                stems[stem] += count
        vocabulary = Vocabulary.of(stems, size=section.vocab_size)
        return cls(cleaning, vocabulary, section.max_length, section.max_words, limits.characters)

    @property
    def codes(self) -> int:
        """How many codes stems may have, with those of no word and of infrequent ones."""
        return len(self.vocabulary.stems) + FIRST

    @property
    def columns(self) -> "dict[str, pa.DataType]":
        """The Arrow type of each thing that `encode` gives."""
        import pyarrow as pa

        return {name: pa.list_(pa.int32()) for name in SEQUENCES}

    def encode(self, examples: "Iterable[Example]", section: Any) -> Iterator[Sequences]:
        """For each example, in order, what `prepare` gives; an empty text is encoded as one infrequent word."""
        return (self._sequences(_text(example.raw)) for example in examples)

    def fingerprint(self, section: Any, split: str) -> str:
        """Names all that encodings depend on beside the texts: the steps, the dictionary, Python's idea of a letter."""
        from flowerml.core import fingerprint

        facts = {**self.state(), "python": platform.python_version()}
        del facts["max_characters"]  # refuses texts, and changes none
        return fingerprint.of(facts, packages=("numpy",), code=[Path(__file__).parent])

    def prepare(self, raw: str) -> Sequences:
        """One text as {"stems": [T], "words": [W]}, int32, at least 1 and at most `max_length` and `max_words` long.

        Raises InputError for what is no text, is empty or has more than `max_characters`.
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
        return self._sequences(raw)

    def collate(self, prepared: list[Sequences]) -> Sequences:
        """Prepared texts as the inputs of the graph, int64: stems [B, T], stem_lengths [B], words, word_lengths.

        Shorter texts are filled up with 0 on the right.
        """
        stems, stem_lengths = _padded([one["stems"] for one in prepared])
        words, word_lengths = _padded([one["words"] for one in prepared])
        return {"stems": stems, "stem_lengths": stem_lengths, "words": words, "word_lengths": word_lengths}

    def graph(self, network: "nn.Module") -> "nn.Module":
        """The network behind all inputs of the graph; it is called with those that its `reads` names, in that order."""
        from torch import nn

        reads: Any = network.reads

        class Reader(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(
                self, stems: "Tensor", stem_lengths: "Tensor", words: "Tensor", word_lengths: "Tensor"
            ) -> "Tensor":
                inputs = {"stems": stems, "stem_lengths": stem_lengths, "words": words, "word_lengths": word_lengths}
                return self.network(*(inputs[name] for name in reads))

        return Reader()

    def random_inputs(self, count: int, *, seed: int) -> Sequences:
        """Inputs of the graph to trace and check it with; another count gives other lengths."""
        rng = np.random.default_rng(seed)
        # Words that are their own stems occur in real texts too, so that the n-grams of the graph are found.
        words = [_hash(stem) for stem in self.vocabulary.stems] or [1]
        rows = ((rng.integers(1, self.codes, 5 + 2 * row), rng.choice(words, 7 + 3 * row)) for row in range(count))
        return self.collate([{"stems": stems, "words": words} for stems, words in rows])

    def show(self, prepared: Sequences) -> str:
        """The stems of a prepared text, "<infrequent>" for those without a code of their own."""
        return " ".join(self.vocabulary.stem(code) for code in prepared["stems"] if code != NO_WORD)

    def state(self) -> dict[str, Any]:
        """All that predicting needs, as plain data."""
        return {**asdict(self), "vocabulary": list(self.vocabulary.stems)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The encoder that `state()` described."""
        cleaning, vocabulary = Cleaning(**state["cleaning"]), Vocabulary(tuple(state["vocabulary"]))
        limit = state.get("max_characters", MAX_CHARACTERS)
        return cls(cleaning, vocabulary, state["max_length"], state["max_words"], limit)

    def save(self, folder: Path) -> None:
        """Write the state, atomically."""
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            files.write_json(temporary / "encoder.json", self.state())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder saved in `folder`."""
        return cls.from_state(files.read_json(folder / "encoder.json"))

    def _sequences(self, raw: str) -> Sequences:
        lines = self.cleaning.lines(raw)
        codes = filter(None, map(self._codes.__getitem__, self.cleaning.words(lines)))
        hashes = map(_HASHES.__getitem__, _tokens(" ".join(lines)))
        return {"stems": _array(codes, self.max_length), "words": _array(hashes, self.max_words)}

    @cached_property
    def _codes(self) -> Memo[int]:
        return Memo(self._code)

    def _code(self, word: str) -> int:
        """The code of a word's stem, 0 for a word that is dropped."""
        stem = self.cleaning.reduced(word)
        return NO_WORD if stem is None else self.vocabulary.code(stem)


def _text(raw: str | bytes) -> str:
    assert isinstance(raw, str), "examples of this task are kept as text"
    return raw


def _tokens(text: str) -> list[str]:
    """Words and punctuation marks, in lower case; an underscore is a space and both apostrophes are one."""
    return _TOKEN.findall(text.lower().replace("’", "'").replace("_", " "))


def _hash(token: str) -> int:
    """A number from 1 to 2^31 - 1 that depends on nothing but the token."""
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF or 1


_HASHES = Memo(_hash)


def _array(values: Iterator[int], limit: int) -> NDArray[np.int32]:
    found = np.fromiter(islice(values, limit), np.int32)
    return found if len(found) else np.array([INFREQUENT], np.int32)


def _padded(rows: list[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of any lengths [T] as one array [B, T], and the lengths [B]."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.full((len(rows), lengths.max()), NO_WORD, np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded, lengths
