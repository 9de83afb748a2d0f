"""Which classes are taken for each other, so that it can be read with a hundred classes too."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """Two classes and the examples, as row numbers, of either that were taken for the other."""

    first: int
    second: int
    first_as_second: Indices
    second_as_first: Indices

    @property
    def mistakes(self) -> int:
        return len(self.first_as_second) + len(self.second_as_first)


def pairs(targets: Indices, predicted: Indices, *, most: int) -> list[Pair]:
    """The pairs of classes with the most mistakes, most first; targets [N], predicted [N].

    Of as many mistakes those in fewer examples come first. `first` is the class that is more often taken for the
    other.
    """
    support = Counter(targets.tolist())
    wrong = np.flatnonzero(targets != predicted)
    ways: dict[tuple[int, int], list[int]] = {}
    for row in wrong:
        ways.setdefault((int(targets[row]), int(predicted[row])), []).append(int(row))
    found = [_pair(ways, *sorted(way)) for way in ways if way[0] < way[1] or way[::-1] not in ways]

    def rank(pair: Pair) -> tuple[int, ...]:
        return -pair.mistakes, support[pair.first] + support[pair.second], pair.first, pair.second

    return sorted(found, key=rank)[:most]


def _pair(ways: dict[tuple[int, int], list[int]], one: int, other: int) -> Pair:
    first, second = (other, one) if len(ways.get((other, one), ())) > len(ways.get((one, other), ())) else (one, other)
    rows = (np.array(ways.get(way, []), np.int64) for way in ((first, second), (second, first)))
    return Pair(first, second, *rows)
