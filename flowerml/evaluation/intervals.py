"""Intervals: how far a number could be off because another test set of the same size would have been drawn.

The bootstrap (Efron & Tibshirani, 1993, "An Introduction to the Bootstrap") draws as many examples as the test set has,
with replacement, and looks at how the number moves. Not `scipy.stats.bootstrap`: it resamples the arrays, where here a
draw is only how often each example occurs. Numbers are counted from that (see metrics.py), and all of them, with the
same draws, in one pass.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

OF_REPEATS = ("accuracy_mean", "accuracy_std", "repeats")  # metrics of several trainings, which have no intervals
CONFIDENCE = 0.95

Counts = NDArray[np.int64]
Statistic = Callable[[Counts], dict[str, float]]


@dataclass(frozen=True)
class Interval:
    """An estimate, and the limits that hold the true number at the chosen confidence."""

    estimate: float
    low: float
    high: float

    def limits(self) -> dict[str, float | None]:
        """Return {"low", "high"}; None for a limit that is not finite, which JSON has no number for."""
        return {
            name: value if math.isfinite(value) else None for name, value in (("low", self.low), ("high", self.high))
        }


def bootstrap(
    statistic: Statistic, count: int, *, resamples: int, seed: int, confidence: float = CONFIDENCE
) -> dict[str, Interval]:
    """Return percentile intervals of the numbers that `statistic` returns.

    `statistic` gets how often each of `count` examples was drawn, [count]; the estimates are its numbers for each drawn
    once. A number that is not finite in a draw (a class without examples) is skipped there. Limits never lie on the
    wrong side of the estimate. The same seed gives the same limits.

    >>> hits = np.array([True] * 90 + [False] * 10)
    >>> accuracy = bootstrap(lambda counts: {"accuracy": counts @ hits / 100}, 100, resamples=500, seed=0)["accuracy"]
    >>> f"{accuracy.estimate:.2f} ({accuracy.low:.2f} to {accuracy.high:.2f})"
    '0.90 (0.84 to 0.96)'
    """
    estimates = statistic(np.ones(count, dtype=np.int64))
    generator = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {name: [] for name in estimates}
    for _ in range(resamples):
        for name, value in statistic(_draw(generator, count)).items():
            draws[name].append(value)
    return {name: _percentile(estimates[name], draws[name], confidence) for name in estimates}


def paired_difference(
    new_hits: ArrayLike, old_hits: ArrayLike, *, resamples: int, seed: int, confidence: float = CONFIDENCE
) -> Interval:
    """Return the difference in accuracy between two classifiers on the same examples, in the same order.

    new_hits [N], old_hits [N]: whether each example was classified correctly. Raises ValueError where the lengths
    differ or are 0.
    """
    new, old = np.asarray(new_hits, np.float64), np.asarray(old_hits, np.float64)
    if new.shape != old.shape or new.ndim != 1 or not len(new):
        raise ValueError(f"expected the hits of two classifiers on the same examples, found {new.shape}, {old.shape}")
    # Examples with the same difference are interchangeable, so drawing how many there are of each is enough.
    values, counts = np.unique(new - old, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(new), counts / len(new), size=resamples)
    return _percentile(float((new - old).mean()), draws @ values / len(new), confidence)


def wilson_interval(hits: int, count: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Return the share of `hits` among `count` with Wilson's limits (1927), which hold for few examples and for 0 or 1.

    For a count of 0: NaN, from 0 to 1.

    >>> interval = wilson_interval(8, 10)
    >>> f"{interval.estimate} ({interval.low:.3f} to {interval.high:.3f})"
    '0.8 (0.490 to 0.943)'
    """
    from scipy.stats import binomtest

    if not count:
        return Interval(math.nan, 0.0, 1.0)
    limits = binomtest(hits, count).proportion_ci(confidence, method="wilson")
    return Interval(hits / count, float(limits.low), float(limits.high))


def perfect_macro_average(estimate: float, counts: Sequence[int], *, confidence: float = CONFIDENCE) -> Interval:
    """Return a mean over classes of 0 or 1 with limits; `counts` are the examples of each class.

    Wilson's, for as many examples as give an accuracy the variance of this mean: the number of classes times the
    harmonic mean of their sizes (all examples if classes are of equal size, fewer if not).

    >>> f"{perfect_macro_average(1, [50, 50]).low:.3f}, {perfect_macro_average(1, [90, 10]).low:.3f}"
    '0.963, 0.904'
    """
    effective = len(counts) ** 2 / sum(1 / count for count in counts)
    count = max(1, math.floor(effective + 1e-9))
    return wilson_interval(round(estimate) * count, count, confidence=confidence)


def perfect_auc(estimate: float, first: int, second: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Return an area under the ROC curve of 0 or 1 with limits, for so many examples of each class.

    Wilson's, for the number of examples of the smaller class: its pairs with the other class are many, but one example
    that is scored on the wrong side of all of these would spoil all of its pairs.

    >>> interval = perfect_auc(1, 20, 17)
    >>> f"{interval.estimate} ({interval.low:.3f} to {interval.high:.3f})"
    '1.0 (0.816 to 1.000)'
    """
    count = min(first, second)
    return wilson_interval(round(estimate) * count, count, confidence=confidence)


def _draw(generator: np.random.Generator, count: int) -> Counts:
    return np.bincount(generator.integers(count, size=count), minlength=count)


def _percentile(estimate: float, draws: ArrayLike, confidence: float) -> Interval:
    values = np.asarray(draws, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(estimate, math.nan, math.nan)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))
