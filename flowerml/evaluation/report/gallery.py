"""The few examples that a report shows, as small as it shows them."""

import base64
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowerml.core.errors import InputError
from flowerml.data.examples import Raw
from flowerml.tasks.registry import Explanation, Task

Raws = Callable[[Collection[str]], Iterable[tuple[str, Raw]]]
"""The raw inputs of the examples with these ids, each with its id, in any order."""
Explains = Callable[[Raw, str], Explanation]
"""What in a raw input spoke for the class with this label; raises InputError."""

FAINT = 0.2  # of the strongest word; what is weaker is not marked
STRONGEST = 10  # words that are shown with their neighbours, where a text is too long to be shown whole
NEIGHBOURS = 7
WHOLE = 120  # words
_TAG = re.compile(r"<[a-zA-Z/!?][^<>]*>")


@dataclass(frozen=True)
class Word:
    """A piece of a text, and how much it spoke for (up to 1) or against (down to -1) a class; None is a gap."""

    text: str
    weight: float | None


@dataclass(frozen=True)
class Shown:
    """One example: a picture (a data URI) and perhaps its heat map, or a text and perhaps its words with weights."""

    picture: str | None = None
    heat: str | None = None
    text: str | None = None
    words: tuple[Word, ...] = ()


def shown(
    ids: Collection[str], explained: Mapping[str, str], *, raws: Raws, task: Task, explain: Explains | None
) -> dict[str, Shown]:
    """The examples with these ids that can be read, and of those in `explained` why they got the label there."""
    found = {}
    for id, raw in raws(ids):
        try:
            why = explain(raw, explained[id]).to_json() if explain and id in explained else {}
            found[id] = _shown(task, raw, why)
        except InputError:
            continue
    return found


def _shown(task: Task, raw: Raw, why: Mapping[str, Any]) -> Shown:
    small = task.preview(raw)
    if isinstance(small, bytes):
        heat = task.preview(base64.b64decode(why["heat_map"])) if "heat_map" in why else None
        return Shown(picture=_uri(small), heat=_uri(heat) if isinstance(heat, bytes) else None)
    return Shown(text=small, words=tuple(_words(why["words"])) if "words" in why else ())


def _uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _words(pieces: list[dict[str, Any]]) -> Iterator[Word]:
    """The words with their weights; of a long text those that count most, with what is around them."""
    most = max((abs(one["weight"]) for one in pieces), default=0.0) or 1.0
    kept = _kept([abs(one["weight"]) if one["text"].strip() else 0.0 for one in pieces])
    last = -1
    for number in kept:
        if number > last + 1:
            yield Word(" … ", None)
        weight = pieces[number]["weight"] / most
        yield Word(_TAG.sub(" ", pieces[number]["text"]), weight if abs(weight) >= FAINT else 0.0)
        last = number
    if kept and last < len(pieces) - 1:
        yield Word(" …", None)


def _kept(weights: list[float]) -> list[int]:
    if len(weights) <= 2 * WHOLE:  # every other piece is a space
        return list(range(len(weights)))
    strongest = sorted(range(len(weights)), key=lambda number: -weights[number])[:STRONGEST]
    around = range(-2 * NEIGHBOURS, 2 * NEIGHBOURS + 1)
    return sorted({number + step for number in strongest for step in around} & set(range(len(weights))))
