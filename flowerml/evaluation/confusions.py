"""The pairs of classes that are most often confused: readable with a hundred classes, where a matrix is not."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes, and the row numbers of the examples of each that were classified as the other."""

    first: int
    second: int
    first_as_second: Indices
    second_as_first: Indices

    @property
    def mistakes(self) -> int:
        return len(self.first_as_second) + len(self.second_as_first)


def most_confused(targets: Indices, predicted: Indices, *, most: int) -> list[ConfusedPair]:
    """Return the pairs of classes with the most mistakes, most first; targets [N], predicted [N].

    Ties are broken by fewer examples. `first` is the class that is more often classified as the other.

    >>> [pair] = most_confused(np.array([0, 0, 1, 2]), np.array([1, 1, 0, 2]), most=1)
    >>> pair.first, pair.second, pair.mistakes
    (0, 1, 3)
    """
    support = Counter(targets.tolist())
    mistakes: dict[tuple[int, int], list[int]] = {}  # (target, predicted): rows
    for row in np.flatnonzero(targets != predicted):
        mistakes.setdefault((int(targets[row]), int(predicted[row])), []).append(int(row))

    def rank(pair: ConfusedPair) -> tuple[int, ...]:
        return -pair.mistakes, support[pair.first] + support[pair.second], pair.first, pair.second

    pairs = {(min(target, answer), max(target, answer)) for target, answer in mistakes}
    return sorted((_pair(mistakes, low, high) for low, high in pairs), key=rank)[:most]


def _pair(mistakes: dict[tuple[int, int], list[int]], low: int, high: int) -> ConfusedPair:
    swapped = len(mistakes.get((high, low), ())) > len(mistakes.get((low, high), ()))
    first, second = (high, low) if swapped else (low, high)
    return ConfusedPair(
        first,
        second,
        first_as_second=np.array(mistakes.get((first, second), []), np.int64),
        second_as_first=np.array(mistakes.get((second, first), []), np.int64),
    )
