"""The rows of answers: one for each input, with `error` and `message` where it cannot be read."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flowerml.core.errors import DataError, InputError
from flowerml.engine.parallel import map_readable

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier
    from flowerml.classifier.prediction import Prediction
    from flowerml.data.examples import Raw

FIELDS = (
    "row",
    "input",
    "label",
    "name",
    "probability",
    "known",
    "out_of_distribution",
    "reason",
    "error",
    "message",
)
ERROR = FIELDS.index("error")
RANKED = re.compile(r"(?:(?<=^label)|(?<=^name)|(?<=^probability))_\d+$")  # the end of another class's column

Row = tuple[Any, ...]
Item = tuple[int, str, tuple[str | None, ...], "Raw | InputError"]
"""The number of a row from 1, its name, the columns that are carried along, and the raw input."""


def fields(top_k: int = 1, keep: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of a row's values: FIELDS, those of the other classes, and the columns carried along.

    Raises DataError where a column has a name that is taken.

    >>> fields(2, ["stars"])[len(FIELDS):]
    ('label_2', 'name_2', 'probability_2', 'stars')
    """
    more = [f"{name}_{rank}" for rank in range(2, top_k + 1) for name in ("label", "name", "probability")]
    names = (*FIELDS, *more, *keep)
    for name in keep:
        if names.count(name) > 1 or RANKED.search(name):
            raise DataError(f"--keep {name}: the answers have a column of this name; rename it in the source")
    return names


def answer_rows(classifier: "Classifier", items: Iterable[Item], *, top_k: int = 1) -> Iterator[Row]:
    """Yield the row of each item, in order; its values are those of `fields`."""
    pairs = (((number, name, kept), raw) for number, name, kept, raw in items)
    for (number, name, kept), answer in map_readable(pairs, lambda raws: classifier.predict_each(raws, top_k=top_k)):
        yield (number, _valid(name), *_values(answer, top_k), *map(_valid, kept))


def _values(answer: "Prediction | InputError", top_k: int) -> Iterator[Any]:
    if isinstance(answer, InputError):
        yield from (*[None] * 6, answer.code, _valid(answer.message), *[None] * 3 * (top_k - 1))
        return
    best, *others = answer.top
    yield from (best.label, best.name, best.probability)
    yield from (answer.known, answer.out_of_distribution, answer.reason, None, None)
    for other in others:
        yield from (other.label, other.name, other.probability)


def _valid(text: str | None) -> str | None:
    """Return text that every format can hold: the name of a file may hold bytes that are not UTF-8."""
    return None if text is None else text.encode(errors="backslashreplace").decode()
