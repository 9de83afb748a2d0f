"""How good answers are on parts of the examples: the dark pictures, the long texts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowerml.core.errors import InputError
from flowerml.evaluation import intervals
from flowerml.tasks.registry import Task

QUARTERS = ("lowest", "second", "third", "highest")  # of numbers, with as many examples in each
VALUES = 4  # numbers that have so few are taken one by one
LEVEL = 0.05  # of all tests together
COLUMNS = ("property", "slice", "support", "accuracy", "low", "high", "rest", "p", "worse")

Properties = Mapping[str, float | str]
Mask = NDArray[np.bool_]


def table(properties: Sequence[Properties], hits: Mask) -> pd.DataFrame:
    """A row for each slice, worst first; properties and hits are of the same examples, [N].

    `low` and `high` are the limits of its accuracy, `rest` is the accuracy of all others. `p` is how probable it is
    that so few hits fall into the slice by chance alone (Fisher's exact test, one-sided, times what Holm's correction
    asks for with so many slices), `worse` whether that is below LEVEL.
    """
    rows = [_row(name, part, inside, hits) for name, part, inside in _slices(properties)]
    found = pd.DataFrame(rows, columns=list(COLUMNS[:-1]))
    found["p"] = _holm(found["p"].to_numpy(np.float64))
    found["worse"] = found["p"] < LEVEL
    return found.sort_values("accuracy", kind="stable", ignore_index=True)


def properties_of(task: Task, raw: Any) -> Properties:
    """What a raw input is like; nothing where that is not to be had, as its classifier may have wider limits."""
    try:
        return task.properties(raw)
    except InputError:
        return {}


def _slices(properties: Sequence[Properties]) -> Iterator[tuple[str, str, Mask]]:
    """Property, part of it and which examples are in that; of properties that are alike everywhere none."""
    for name, column in pd.DataFrame([dict(one) for one in properties]).items():
        parts = list(_parts(column))
        if len(parts) > 1:
            yield from ((str(name), part, inside) for part, inside in parts)


def _parts(column: pd.Series) -> Iterator[tuple[str, Mask]]:
    there = column.notna().to_numpy()
    for part, inside in _parts_of_known(column[there]):
        whole = np.zeros(len(column), dtype=bool)
        whole[there] = inside
        yield part, whole


def _parts_of_known(column: pd.Series) -> Iterator[tuple[str, Mask]]:
    values = column.to_numpy()
    if not pd.api.types.is_numeric_dtype(column) or column.nunique() <= VALUES:
        for value in sorted(column.unique()):
            yield _shown(value), values == value
        return
    edges = np.unique(np.quantile(values, np.linspace(0, 1, len(QUARTERS) + 1)[1:-1]))
    numbers = np.searchsorted(edges, values)  # those equal to an edge are below it
    filled = np.unique(numbers)
    for number in filled:
        inside = numbers == number
        low, high = _shown(values[inside].min()), _shown(values[inside].max())
        ends = low if low == high else f"{low} to {high}"
        yield (f"{QUARTERS[number]} quarter, {ends}" if len(filled) == len(QUARTERS) else ends), inside


def _row(name: str, part: str, inside: Mask, hits: Mask) -> tuple[object, ...]:
    from scipy.stats import hypergeom  # type: ignore[import-untyped]

    support, right = int(inside.sum()), int(hits[inside].sum())
    found = intervals.share(right, support)
    others = len(hits) - support
    rest = (int(hits.sum()) - right) / others if others else float("nan")
    by_chance = float(hypergeom.cdf(right, len(hits), int(hits.sum()), support))
    return name, part, support, found.estimate, found.low, found.high, rest, by_chance


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm (1979): p-values of as many tests, so that the chance of a single false alarm is what each says."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    return f"{number:,.0f}" if number.is_integer() or abs(number) >= 100 else f"{number:.3g}"
