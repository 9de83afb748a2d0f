"""The embedded data set of the `reviews` pipeline: movie reviews composed by a small grammar, from a seed.

Most sentiment words occur in both classes; negation ("never boring"), contrast ("great, but ...") and
concessions decide what they are worth, so that a model that reads words in order beats one that counts them.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flowerml.data.archives import write_tar
from flowerml.tasks.text.sample.grammar import GRAMMAR

_SIGNS = {"pos": "+", "neg": "-"}
_OPPOSITE = {"pos": "neg", "neg": "pos"}
_KEPT = {"title", "genre", "hero", "star", "costar", "director", "author", "year", "minutes", "age", "place"}
_TYPO_SHARE = 0.15
_HOLE = re.compile(r"{(?P<flip>!?)(?P<symbol>\w+)}")
_SENTENCE_START = re.compile(r"""((?:^|[.!?]["']? |<br /><br />)["']?)([a-z])""")


@dataclass
class _Reviewer:
    """Says the grammar's symbols about one film: the facts stay the same, a phrase is rarely used twice."""

    rng: random.Random
    facts: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def say(self, symbol: str, mood: str) -> str:
        """A text for `symbol` in the mood `pos` or `neg`."""
        if symbol in self.facts:
            return self.facts[symbol]
        template = self._choose(GRAMMAR.get(symbol, []) + GRAMMAR.get(symbol + _SIGNS[mood], []))
        moods = {"": mood, "!": _OPPOSITE[mood]}
        text = _HOLE.sub(lambda hole: self.say(hole["symbol"], moods[hole["flip"]]), template)
        if symbol in _KEPT:
            self.facts[symbol] = text
        return text

    def _choose(self, templates: list[str]) -> str:
        """One of the templates; those that begin with words of their own come once while there are others."""
        choice = self.rng.choice([t for t in templates if t not in self.used] or templates)
        if not choice.startswith("{"):
            self.used.add(choice)
        return choice


def compose(label: str, *, rng: random.Random) -> str:
    """One review of an invented film, `pos` or `neg`; raises ValueError for any other label."""
    if label not in _SIGNS:
        raise ValueError(f"unknown label {label!r}; reviews are composed for {', '.join(_SIGNS)}")
    text = _tidy(_Reviewer(rng).say("review", label))
    return _misspell(text, rng=rng) if rng.random() < _TYPO_SHARE else text


def _tidy(text: str) -> str:
    """Line breaks without spaces around them, `an` before vowels, capitals at the start of sentences."""
    text = re.sub(r" ?(<br /><br />) ?", r"\1", text)
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return _SENTENCE_START.sub(lambda start: start[1] + start[2].upper(), text)


def _misspell(text: str, *, rng: random.Random) -> str:
    """The text with one of its longer words written too fast: two neighbouring letters change places."""
    words = list(re.finditer(r"\b[a-z]{5,}\b", text))
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def write(archive: Path, *, per_class: int, seed: int) -> None:
    """Write a tar of `per_class` reviews of each class at `reviews/<label>/<label>_0001.txt`, UTF-8.

    The bytes depend on `per_class` and `seed` alone, and review i on `seed` alone.
    The file appears whole or not at all.
    """
    write_tar(archive, reviews(per_class, seed))


def reviews(per_class: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Every review's path in the archive and its bytes, in order."""
    for label in _SIGNS:
        for index in range(1, per_class + 1):
            text = compose(label, rng=random.Random(f"{seed}/{label}/{index}"))
            yield f"reviews/{label}/{label}_{index:04}.txt", text.encode()
