"""The few examples that a report shows, in the size it shows them."""

import base64
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowerml.core.errors import InputError
from flowerml.data.examples import Raw
from flowerml.tasks.base import Explanation, Task

Raws = Callable[[Collection[str]], Iterable[tuple[str, Raw]]]
"""Returns the raw inputs of the examples with these ids, each with its id, in any order."""
Explains = Callable[[Raw, str], Explanation]
"""Returns what in a raw input spoke for the class with this label; raises InputError."""

FAINT = 0.2  # of the strongest word; weaker words are not marked
STRONGEST = 10  # words that are shown, with their neighbours, of a text that is too long to be shown whole
NEIGHBOURS = 7
WHOLE = 120  # words
_TAG = re.compile(r"<[a-zA-Z/!?][^<>]*>")


@dataclass(frozen=True)
class WeightedWord:
    """A piece of a text, and how much it spoke for (up to 1) or against (down to -1) a class; None marks a gap."""

    text: str
    weight: float | None


@dataclass(frozen=True)
class GalleryItem:
    """One example: a picture (a data URI) with an optional heat map, or a text with optional weighted words."""

    picture: str | None = None
    heat_map: str | None = None
    text: str | None = None
    words: tuple[WeightedWord, ...] = ()


def load(
    ids: Collection[str], explained: Mapping[str, str], *, raws: Raws, task: Task, explain: Explains | None
) -> dict[str, GalleryItem]:
    """Return the examples with these ids that can be read, those in `explained` (id: label) with an explanation."""
    items = {}
    for id, raw in raws(ids):
        try:
            explanation = explain(raw, explained[id]).to_json() if explain and id in explained else {}
            items[id] = _item(task, raw, explanation)
        except InputError:
            continue
    return items


def _item(task: Task, raw: Raw, explanation: Mapping[str, Any]) -> GalleryItem:
    preview = task.preview(raw)
    if isinstance(preview, bytes):
        heat_map = task.preview(base64.b64decode(explanation["heat_map"])) if "heat_map" in explanation else None
        return GalleryItem(
            picture=_data_uri(preview),
            heat_map=_data_uri(heat_map) if isinstance(heat_map, bytes) else None,
        )
    return GalleryItem(text=preview, words=tuple(_words(explanation["words"])) if "words" in explanation else ())


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _words(pieces: list[dict[str, Any]]) -> Iterator[WeightedWord]:
    """Yield the words with their weights; of a long text only the strongest, with their neighbours."""
    highest = max((abs(piece["weight"]) for piece in pieces), default=0.0) or 1.0
    kept = _kept([abs(piece["weight"]) if piece["text"].strip() else 0.0 for piece in pieces])
    last = -1
    for number in kept:
        if number > last + 1:
            yield WeightedWord(" … ", None)
        weight = pieces[number]["weight"] / highest
        yield WeightedWord(_TAG.sub(" ", pieces[number]["text"]), weight if abs(weight) >= FAINT else 0.0)
        last = number
    if kept and last < len(pieces) - 1:
        yield WeightedWord(" …", None)


def _kept(weights: list[float]) -> list[int]:
    if len(weights) <= 2 * WHOLE:  # every other piece is a space
        return list(range(len(weights)))
    strongest = sorted(range(len(weights)), key=lambda number: -weights[number])[:STRONGEST]
    around = range(-2 * NEIGHBOURS, 2 * NEIGHBOURS + 1)
    return sorted({number + step for number in strongest for step in around} & set(range(len(weights))))
