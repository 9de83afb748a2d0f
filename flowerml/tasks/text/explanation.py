"""Explanations of texts by erasure: the weight of a word is the fall of the class's log odds without it.

Li, Monroe & Jurafsky (2016), "Understanding Neural Networks through Representation Erasure". It needs predictions
only, so it works on every graph, without gradients.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flowerml.tasks.text.encoder import Preprocessing, Sequences
from flowerml.tasks.text.encoder.cleaning import PARSER_STEPS

MAX_SPANS = 384  # erased at most; in a longer text several words are erased at a time
# With a pretrained encoder, which takes 25 to 100 ms for a text, where other networks take one: three seconds.
MAX_SPANS_PRETRAINED = 64
CHARACTER_BUDGET = 2**22  # read at most, over all shortened texts
PARSER_BUDGET = 2 * PARSER_STEPS  # steps of the HTML parser over all shortened texts: one to two seconds
MIN_SPANS = 4  # even where it takes longer: three seconds for the costliest text

LogOdds = Callable[[Iterable[Sequences]], NDArray[np.float64]]

# A tag, or a word with the punctuation after it, or punctuation alone.
_WORD = re.compile(r"<[a-zA-Z/!?][^<>]*>|(\w+(?:['’]\w+)*[^\w\s<]*|[^\w\s<]+|<)")


@dataclass(frozen=True)
class Word:
    """A piece of a text, and by how much the log odds of the class fall without it."""

    text: str
    weight: float


@dataclass(frozen=True)
class Explanation:
    """The pieces of a text in order, including spaces; joined, they give the text."""

    kind: ClassVar[str] = "text"
    label: str
    words: tuple[Word, ...]

    def to_json(self) -> dict[str, Any]:
        """Return {"kind": "text", "label", "words": [{"text", "weight"}, …]}."""
        words = [{"text": word.text, "weight": round(word.weight, 4)} for word in self.words]
        return {"kind": self.kind, "label": self.label, "words": words}


def explain(raw: str, preprocessing: Preprocessing, log_odds: LogOdds, *, label: str) -> Explanation:
    """Return the weights of a text's words for the class whose log odds `log_odds` gives. Raises InputError.

    The network sees the whole text and at most MAX_SPANS shortened ones, with a pretrained encoder at most
    MAX_SPANS_PRETRAINED. Words after those that the encoder reads
    weigh 0, as do spaces and tags.
    """
    whole = preprocessing.transform(raw)
    end = _end_of_input(raw, whole, preprocessing)
    # An erased word makes room for words after the end.
    beginning = raw[: 2 * end]
    spans = _word_spans(raw[:end], most=_span_budget(beginning, preprocessing))
    values = log_odds(_occlusions(beginning, whole, spans, preprocessing))
    return Explanation(label, tuple(_weighted_words(raw, spans, values[0] - values[1:])))


def _span_budget(text: str, preprocessing: Preprocessing) -> int:
    """Return how many shortened texts can be read in time; parsing tags that are never closed is quadratic."""
    most = MAX_SPANS if preprocessing.tokens is None else MAX_SPANS_PRETRAINED
    steps = max(1, text.count("<") * len(text))
    return max(MIN_SPANS, min(most, CHARACTER_BUDGET // len(text), PARSER_BUDGET // steps))


def _end_of_input(raw: str, whole: Sequences, preprocessing: Preprocessing) -> int:
    """Return a position at or somewhat after the end of what the encoder reads."""
    end = 1024
    while end < len(raw):
        part = raw[:end]
        if part.strip() and _equal(preprocessing.transform(part), whole):
            return end
        end *= 2
    return len(raw)


def _equal(part: Sequences, whole: Sequences) -> bool:
    return all(np.array_equal(part[name], whole[name]) for name in whole)


def _word_spans(text: str, *, most: int) -> list[tuple[int, int]]:
    """Return start and end of each word, or of runs of words if there are more than `most` words."""
    words = [match.span(1) for match in _WORD.finditer(text) if match.group(1)]
    size = max(1, -(-len(words) // most))
    groups = (words[start : start + size] for start in range(0, len(words), size))
    return [(group[0][0], group[-1][1]) for group in groups]


def _occlusions(
    text: str, whole: Sequences, spans: list[tuple[int, int]], preprocessing: Preprocessing
) -> Iterator[Sequences]:
    """Yield the whole text, then the text without each span."""
    yield whole
    for start, end in spans:
        rest = text[:start] + text[end:]
        # Without its only word a text is empty, which the encoder refuses.
        yield preprocessing.transform(rest if rest.strip() else "\N{REPLACEMENT CHARACTER}")


def _weighted_words(raw: str, spans: list[tuple[int, int]], weights: NDArray[np.float64]) -> Iterator[Word]:
    done = 0
    for (start, end), weight in zip(spans, weights, strict=True):
        if start > done:
            yield Word(raw[done:start], 0.0)
        yield Word(raw[start:end], float(weight))
        done = end
    if done < len(raw):
        yield Word(raw[done:], 0.0)
