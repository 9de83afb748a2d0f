"""Which words of a text spoke for a class: leave them out one after the other, and see what it costs the class.

Li, Monroe & Jurafsky (2016), "Understanding Neural Networks through Representation Erasure". It asks nothing of a
network but answers, so it works on every graph, without gradients.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flowerml.tasks.text.encoder import Encoder, Sequences
from flowerml.tasks.text.encoder.cleaning import PARSER_STEPS

SPANS = 384  # that are left out at most; words of a longer text are left out several at a time
CHARACTERS = 2**22  # that are read at most, over all the texts with something left out
STEPS = 5 * PARSER_STEPS  # that the HTML parser takes at most, over all of them: two seconds
FEWEST_SPANS = 8

LogOdds = Callable[[Iterable[Sequences]], NDArray[np.float64]]

# A tag, or a word with the marks behind it, or marks alone.
_WORD = re.compile(r"<[a-zA-Z/!?][^<>]*>|(\w+(?:['’]\w+)*[^\w\s<]*|[^\w\s<]+|<)")


@dataclass(frozen=True)
class Word:
    """A piece of a text, and by how much the log odds of a class fall without it."""

    text: str
    weight: float


@dataclass(frozen=True)
class Explanation:
    """The pieces of a text in its order, spaces among them; joined, they are the text."""

    kind: ClassVar[str] = "text"
    label: str
    words: tuple[Word, ...]

    def to_json(self) -> dict[str, Any]:
        """{"kind": "text", "label", "words": [{"text", "weight"}, …]}"""
        words = [{"text": word.text, "weight": round(word.weight, 4)} for word in self.words]
        return {"kind": self.kind, "label": self.label, "words": words}


def explain(raw: str, encoder: Encoder, log_odds: LogOdds, *, label: str) -> Explanation:
    """What in a text spoke for the class whose log odds `log_odds` gives; raises InputError.

    The network is asked for at most SPANS texts and the whole one. What stands behind the words that the encoder
    reads weighs 0, as do spaces and tags.
    """
    whole = encoder.prepare(raw)
    end = _end(raw, whole, encoder)
    # What is left out makes room for words behind the end.
    read = raw[: 2 * end]
    spans = _spans(raw[:end], most=_affordable(read))
    values = log_odds(_shortened(read, whole, spans, encoder))
    return Explanation(label, tuple(_words(raw, spans, values[0] - values[1:])))


def _affordable(read: str) -> int:
    """How many times a text can be read with something left out; tags that are never closed take their square."""
    steps = max(1, read.count("<") * len(read))
    return max(FEWEST_SPANS, min(SPANS, CHARACTERS // len(read), STEPS // steps))


def _end(raw: str, whole: Sequences, encoder: Encoder) -> int:
    """Where the part of a text ends that the encoder reads, or somewhat behind it."""
    end = 1024
    while end < len(raw):
        part = raw[:end]
        if part.strip() and _same(encoder.prepare(part), whole):
            return end
        end *= 2
    return len(raw)


def _same(one: Sequences, other: Sequences) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in other)


def _spans(text: str, *, most: int) -> list[tuple[int, int]]:
    """Start and end of each word, or of so many neighbours that there are `most` spans."""
    words = [found.span(1) for found in _WORD.finditer(text) if found.group(1)]
    each = max(1, -(-len(words) // most))
    groups = (words[start : start + each] for start in range(0, len(words), each))
    return [(group[0][0], group[-1][1]) for group in groups]


def _shortened(text: str, whole: Sequences, spans: list[tuple[int, int]], encoder: Encoder) -> Iterator[Sequences]:
    """The whole text, then the text without each span."""
    yield whole
    for start, end in spans:
        rest = text[:start] + text[end:]
        # Of a single word nothing is left, which is no text.
        yield encoder.prepare(rest if rest.strip() else "\N{REPLACEMENT CHARACTER}")


def _words(raw: str, spans: list[tuple[int, int]], weights: NDArray[np.float64]) -> Iterator[Word]:
    done = 0
    for (start, end), weight in zip(spans, weights, strict=True):
        if start > done:
            yield Word(raw[done:start], 0.0)
        yield Word(raw[start:end], float(weight))
        done = end
    if done < len(raw):
        yield Word(raw[done:], 0.0)
