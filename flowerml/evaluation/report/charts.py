"""Charts as SVG: the positions of their points. Colours and fonts are the style sheet's, so dark mode works.

Why not matplotlib: its SVG was tried, and looks as good only after five regular expressions over it (URLs in its
metadata, a style that applies to the whole page, namespaces, inline fonts, colours as CSS variables). It is five times
as large, loses the tooltips, and its bytes change with the version of matplotlib.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

WIDTH, HEIGHT = 360, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 20, 46
FLOORS = (0.96, 0.92, 0.9, 0.8, 0.6, 0.5, 0.4, 0.2)  # four equal steps from each to 1 are short numbers


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: its position in pixels, and its text."""

    position: float
    text: str


@dataclass(frozen=True)
class Point:
    """A point of a chart: its position and radius in pixels, and its tooltip."""

    x: float
    y: float
    radius: float
    text: str


@dataclass(frozen=True)
class Axes:
    """The axes of a chart of shares: x from 0 to 1, y from `floor` to 1.

    >>> axes = Axes(floor=0.8)
    >>> [tick.text for tick in axes.y_ticks]
    ['80 %', '85 %', '90 %', '95 %', '100 %']
    >>> axes.line([0, 1], [1.0, 0.8])
    '52,20.0 340,254.0'
    """

    floor: float = 0.0

    def x(self, value: float) -> float:
        return round(LEFT + value * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (max(value, self.floor) - self.floor) / (1 - self.floor)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    @property
    def x_ticks(self) -> list[Tick]:
        return [Tick(self.x(number / 4), f"{25 * number} %") for number in range(5)]

    @property
    def y_ticks(self) -> list[Tick]:
        values = [self.floor + (1 - self.floor) * number / 4 for number in range(5)]
        return [Tick(self.y(value), f"{100 * value:.3g} %") for value in values]

    def line(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        """Return the points of a polyline."""
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in zip(xs, ys, strict=True))


def reliability(table: pd.DataFrame, axes: Axes) -> list[Point]:
    """Return a circle for each bin of a reliability table, whose area grows with its share of the examples."""
    total = int(table["count"].sum())
    columns = (table[name].tolist() for name in ("confidence", "accuracy", "count"))
    return [
        Point(
            axes.x(confidence),
            axes.y(accuracy),
            round(2.5 + 13 * math.sqrt(count / total), 1),
            f"{count:,} examples: confidence {100 * confidence:.1f} %, accuracy {100 * accuracy:.1f} %",
        )
        for confidence, accuracy, count in zip(*columns, strict=True)
    ]


def axis_floor(values: Sequence[float]) -> float:
    """Return where an axis that ends at 1 begins, so that it shows all values and its ticks are short numbers.

    >>> axis_floor([0.93, 0.99]), axis_floor([0.1])
    (0.92, 0.0)
    """
    lowest = min(values, default=0.0)
    return next((floor for floor in FLOORS if floor <= lowest), 0.0)
