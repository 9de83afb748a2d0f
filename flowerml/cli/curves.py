"""Learning curves in a terminal, drawn with the dots of braille characters: eight to a character.

Why not plotext: it is one more package to install for what takes forty lines here, and it draws whole screens.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

BRAILLE = 0x2800
# The bit of each dot of a character, by its row and column.
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
LABEL = 6  # columns of an axis
STYLES = {"train": "cyan", "valid": "bold green"}
Values = Sequence[float]


@dataclass(frozen=True)
class Plot:
    """A plot of `width` x `height` characters, with x from 1 to `last`, and y from `low` to `high`.

    >>> sorted(Plot(width=2, height=1, last=3, low=0.0, high=1.0).line([0.0, 0.5, 1.0]))
    [(0, 3), (1, 2), (2, 1), (2, 2), (3, 0)]
    """

    width: int
    height: int
    last: int
    low: float
    high: float

    def line(self, values: Values) -> set[tuple[int, int]]:
        """Return the dots (column, row) of the line through values at 1, 2, …; those that are not finite are gaps."""
        points = [(self._column(x), self._row(y)) for x, y in enumerate(values, 1) if math.isfinite(y)]
        dots = set(points[:1])
        for (left, start), (right, end) in pairwise(points):
            steps = max(abs(right - left), abs(end - start), 1)
            for step in range(1, steps + 1):
                share = step / steps
                dots.add((round(left + share * (right - left)), round(start + share * (end - start))))
        return dots

    def _column(self, x: int) -> int:
        return round((x - 1) / max(self.last - 1, 1) * (2 * self.width - 1))

    def _row(self, y: float) -> int:
        share = (min(max(y, self.low), self.high) - self.low) / (self.high - self.low)
        return round((1 - share) * (4 * self.height - 1))


def drawn(series: Mapping[str, Values], *, width: int, height: int, last: int) -> "Text":
    """Return the curves of train and valid, `height` lines of at most `width` columns with an axis at the left.

    What is not finite is left out.
    """
    from rich.text import Text

    low, high = limits(series.values())
    plot = Plot(max(width - LABEL - 1, 1), height, last, low, high)
    cells: dict[tuple[int, int], int] = {}
    styles: dict[tuple[int, int], str] = {}
    for name, values in series.items():
        for column, row in plot.line(values):
            if name == "train" and column % 4 > 1:
                continue  # dashed, for those who do not see the colours
            cell = row // 4, column // 2
            cells[cell] = cells.get(cell, 0) | DOTS[row % 4][column % 2]
            styles[cell] = STYLES[name]
    text = Text()
    for row in range(height):
        value = {0: high, height - 1: low}.get(row)
        text.append(f"{'' if value is None else f'{value:.3g}':>{LABEL}}│", style="dim")
        for column in range(plot.width):
            cell = row, column
            text.append(chr(BRAILLE + cells[cell]) if cell in cells else " ", style=styles.get(cell, ""))
        text.append("\n" if row < height - 1 else "")
    return text


def limits(series: Iterable[Values]) -> tuple[float, float]:
    """Return the lowest and the highest finite value, never the same.

    >>> limits([[0.5, float("nan")], [0.75]]), limits([[]])
    ((0.5, 0.75), (0.0, 1.0))
    """
    finite = [value for values in series for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
