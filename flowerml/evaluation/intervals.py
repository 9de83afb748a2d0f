"""How far a number could be off because another test set of the same size would have been drawn.

Efron & Tibshirani (1993), "An Introduction to the Bootstrap": draw as many examples from the test set as it has, each
time putting them back, and see how the number moves.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95

Counts = NDArray[np.int64]
Statistic = Callable[[Counts], dict[str, float]]


@dataclass(frozen=True)
class Interval:
    """A number, and the limits that hold the true one at the confidence asked for."""

    estimate: float
    low: float
    high: float

    def limits(self) -> dict[str, float | None]:
        """{"low", "high"}; None for what is not known, which JSON has no number for."""
        return {
            name: value if math.isfinite(value) else None for name, value in (("low", self.low), ("high", self.high))
        }


def bootstrap(
    statistic: Statistic, count: int, *, resamples: int, seed: int, confidence: float = CONFIDENCE
) -> dict[str, Interval]:
    """Percentile intervals of the numbers that `statistic` gives.

    It is called with how often each of `count` examples was drawn, [count]; once with each drawn once, for the
    estimates. A number that is not finite in a draw (no example of a class in it) is left out there. Limits never
    lie on the wrong side of the estimate. The same seed gives the same limits.
    """
    estimates = statistic(np.ones(count, dtype=np.int64))
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in estimates}
    for _ in range(resamples):
        for name, value in statistic(_draw(generator, count)).items():
            drawn[name].append(value)
    return {name: _percentile(estimates[name], drawn[name], confidence) for name in estimates}


def paired_difference(
    new_hits: ArrayLike, old_hits: ArrayLike, *, resamples: int, seed: int, confidence: float = CONFIDENCE
) -> Interval:
    """By how much the share of hits of one classifier is above another's on the same examples, in the same order.

    new_hits [N], old_hits [N]: whether each answer was right. Raises ValueError where there are none, or not as many.
    """
    new, old = np.asarray(new_hits, np.float64), np.asarray(old_hits, np.float64)
    if new.shape != old.shape or new.ndim != 1 or not len(new):
        raise ValueError(f"expected the hits of two classifiers on the same examples, found {new.shape}, {old.shape}")
    # Examples with the same difference are alike, so it is enough to draw how many there are of each.
    values, counts = np.unique(new - old, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(new), counts / len(new), size=resamples)
    return _percentile(float((new - old).mean()), draws @ values / len(new), confidence)


def share(hits: int, count: int, *, confidence: float = CONFIDENCE) -> Interval:
    """`hits` of `count` with Wilson's limits, which hold for few examples too, and where all or none is a hit.

    Of nothing: nan, from 0 to 1.
    """
    if not count:
        return Interval(float("nan"), 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    estimate = hits / count
    middle = (estimate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (estimate * (1 - estimate) / count + z**2 / (4 * count**2)) ** 0.5
    return Interval(estimate, max(0.0, min(middle - half, estimate)), min(1.0, max(middle + half, estimate)))


def _draw(generator: np.random.Generator, count: int) -> Counts:
    return np.bincount(generator.integers(count, size=count), minlength=count)


def _percentile(estimate: float, drawn: ArrayLike, confidence: float) -> Interval:
    values = np.asarray(drawn, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))
