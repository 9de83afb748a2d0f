"""Charts as SVG: where their points lie. Colours and letters are the style sheet's."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

WIDTH, HEIGHT = 360, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 20, 46


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: where it is, and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A point of a chart with its size, all in pixels, and what is told of it."""

    x: float
    y: float
    radius: float
    text: str


@dataclass(frozen=True)
class Axes:
    """Both axes, from 0 to 1 in x and from `floor` to 1 in y."""

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
        """The points of a polyline."""
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in zip(xs, ys, strict=True))


def reliability(table: pd.DataFrame, axes: Axes) -> list[Point]:
    """A circle for each bin, whose area is its share of the examples."""
    total = int(table["count"].sum())
    columns = (table[name].tolist() for name in ("confidence", "accuracy", "count"))
    return [
        Point(
            axes.x(confidence),
            axes.y(accuracy),
            round(2.5 + 13 * math.sqrt(count / total), 1),
            f"{count:,} examples: stated {100 * confidence:.1f} %, right {100 * accuracy:.1f} %",
        )
        for confidence, accuracy, count in zip(*columns, strict=True)
    ]


def floor_of(values: Sequence[float]) -> float:
    """Where an axis that ends at 1 may begin, so that all values are on it: a number that divides well."""
    lowest = min(values, default=0.0)
    return next((step for step in (0.96, 0.92, 0.9, 0.8, 0.6, 0.5, 0.4, 0.2) if step <= lowest), 0.0)
