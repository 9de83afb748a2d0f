"""Accuracy on slices of the examples: the dark pictures, the long texts."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowerml.evaluation import holm
from flowerml.evaluation.intervals import wilson_interval

QUARTERS = ("lowest", "second", "third", "highest")  # of a numeric property, each with as many examples
FEW_VALUES = 4  # a numeric property with at most so many gets a slice for each value
LEVEL = 0.05  # the significance level of all tests together
COLUMNS = ("property", "slice", "support", "accuracy", "low", "high", "rest", "p", "worse")

Properties = Mapping[str, float | str]
Mask = NDArray[np.bool_]


def slice_table(properties: Sequence[Properties], hits: Mask) -> pd.DataFrame:
    """Return a row for each slice, lowest accuracy first. properties [N] and hits [N] are of the same examples.

    `low` and `high` are the limits of the accuracy, `rest` is the accuracy outside the slice. `p` is the probability of
    so few hits by chance (Fisher's exact test, one-sided, with Holm's correction), `worse` whether it is below LEVEL.

    >>> properties = [{"shape": "wide"}] * 20 + [{"shape": "tall"}] * 20
    >>> table = slice_table(properties, np.array([True] * 30 + [False] * 10))
    >>> table[["slice", "support", "accuracy", "worse"]].to_dict("records")[0]
    {'slice': 'tall', 'support': 20, 'accuracy': 0.5, 'worse': True}
    """
    rows = [_row(name, part, inside, hits) for name, part, inside in _slices(properties)]
    table = pd.DataFrame(rows, columns=list(COLUMNS[:-1]))
    table["p"] = holm.corrected(table["p"])
    table["worse"] = table["p"] < LEVEL
    return table.sort_values("accuracy", kind="stable", ignore_index=True)


def _slices(properties: Sequence[Properties]) -> Iterator[tuple[str, str, Mask]]:
    """Yield property, slice and its examples [N]; none for a property that is the same everywhere."""
    for name, column in pd.DataFrame([dict(values) for values in properties]).items():
        slices = list(_slices_of(column))
        if len(slices) > 1:
            yield from ((str(name), part, inside) for part, inside in slices)


def _slices_of(column: pd.Series) -> Iterator[tuple[str, Mask]]:
    """Yield the slices of one property; an example without it is in none of them."""
    present = column.notna().to_numpy()
    for part, inside in _slices_of_present(column[present]):
        mask = np.zeros(len(column), dtype=bool)
        mask[present] = inside
        yield part, mask


def _slices_of_present(column: pd.Series) -> Iterator[tuple[str, Mask]]:
    values = column.to_numpy()
    if not pd.api.types.is_numeric_dtype(column) or column.nunique() <= FEW_VALUES:
        for value in sorted(column.unique()):
            yield _format(value), values == value
        return
    # Not pandas.qcut: it refuses equal edges, or drops them and with them the names of the quarters.
    edges = np.unique(np.quantile(values, np.linspace(0, 1, len(QUARTERS) + 1)[1:-1]))
    quarters = np.searchsorted(edges, values)  # a value equal to an edge is below it
    filled = np.unique(quarters)
    for quarter in filled:
        inside = quarters == quarter
        low, high = _format(values[inside].min()), _format(values[inside].max())
        ends = low if low == high else f"{low} to {high}"
        yield (f"{QUARTERS[quarter]} quarter, {ends}" if len(filled) == len(QUARTERS) else ends), inside


def _row(name: str, part: str, inside: Mask, hits: Mask) -> tuple[object, ...]:
    from scipy.stats import hypergeom

    support, correct = int(inside.sum()), int(hits[inside].sum())
    interval = wilson_interval(correct, support)
    outside = len(hits) - support
    rest = (int(hits.sum()) - correct) / outside if outside else float("nan")
    # The distribution itself, and not scipy.stats.fisher_exact, which takes a 2 x 2 table and returns this same number.
    p = float(hypergeom.cdf(correct, len(hits), int(hits.sum()), support))
    return name, part, support, interval.estimate, interval.low, interval.high, rest, p


def _format(value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    return f"{number:,.0f}" if number.is_integer() or abs(number) >= 100 else f"{number:.3g}"
