"""How two classifiers differ on the same test examples, and two sets of repeats: trainings that differ in their seed.

A difference is off by chance in two ways: other test examples would have been drawn, and other seeds. The limits are
those of Student's t with the variance of a crossed design, each network answering each example (Searle, Casella &
McCulloch, 1992, "Variance Components"), and Satterthwaite's (1946) degrees of freedom.

Why not a bootstrap of examples and seeds: its intervals hold the truth in 84 to 100 of 100 simulations, as three seeds
have few combinations and too small a spread; those over examples alone in 35 to 96; these in 94 to 97
(benchmarks/coverage_of_intervals.py).
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from flowerml.core.errors import DataError
from flowerml.evaluation.intervals import CONFIDENCE, Interval

COLUMNS = ("id", "actual", "predicted", "probability_of_actual")
# Half an example decided for each side (Agresti & Min, 2005). Where only a few of N examples are answered differently,
# or none, their spread is not the whole uncertainty: without it as few as 74 of 100 intervals would hold the truth.
PSEUDO_EXAMPLES = 0.5
SMALLEST = 5e-7  # probability of the actual class: predictions are logged with six digits

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A difference with its limits, and the standard errors that test examples and seeds contribute; 0 for one seed."""

    interval: Interval
    examples: float
    seeds: float
    degrees: float

    @property
    def verdict(self) -> str:
        """Return better, worse or unclear: whether the limits are above 0, below it, or on both sides."""
        return "better" if self.interval.low > 0 else "worse" if self.interval.high < 0 else "unclear"

    def __neg__(self) -> Self:
        limits = self.interval
        return type(self)(
            Interval(-limits.estimate, -limits.high, -limits.low), self.examples, self.seeds, self.degrees
        )


def difference(
    ours: ArrayLike, theirs: ArrayLike, *, pseudo_examples: float = 0.0, confidence: float = CONFIDENCE
) -> Difference:
    """Return by how much `ours` is above `theirs` on average, over examples and seeds.

    ours [A, N], theirs [B, N]: a number for the answer of each network to each of the same N examples, such as whether
    it is correct. With several networks on a side the limits hold for their recipe, whatever the seed; with one, for
    that network. Raises ValueError for fewer than two examples, or another number of them.

    >>> rng = np.random.default_rng(0)
    >>> ours, theirs = rng.random((3, 800)) < 0.95, rng.random((3, 800)) < 0.90
    >>> difference(ours, theirs, pseudo_examples=PSEUDO_EXAMPLES).verdict
    'better'
    """
    first, second = (np.asarray(values, np.float64) for values in (ours, theirs))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or first.shape[1] < 2:
        raise ValueError(
            f"expected numbers of [networks, N] for the same N >= 2 examples, found {first.shape}, {second.shape}"
        )
    paired = first.mean(axis=0) - second.mean(axis=0)
    center, of_examples = _of_examples(paired, pseudo_examples, size=math.sqrt((1 / len(first) + 1 / len(second)) / 2))
    spreads = [_spread(values) for values in (first, second)]
    # The seeds' share of the variance of a mean that is not already in that of the examples.
    of_seeds = max(0.0, sum(spread.variance - spread.by_examples for spread in spreads))
    variance = of_examples + of_seeds
    uncertainty = of_examples**2 / (first.shape[1] - 1)
    if of_seeds:
        uncertainty += sum(spread.variance**2 / spread.degrees for spread in spreads if spread.degrees)
    degrees = max(1.0, variance**2 / uncertainty) if uncertainty else math.inf
    half = _student(degrees, confidence) * math.sqrt(variance)
    estimate = float(paired.mean())
    interval = Interval(estimate, min(center - half, estimate), max(center + half, estimate))
    return Difference(interval, math.sqrt(of_examples), math.sqrt(of_seeds), degrees)


@dataclass(frozen=True)
class _Spread:
    """The variance of the mean of a side, as its networks show it, and the part that is due to the examples."""

    variance: float
    by_examples: float
    degrees: int


def _spread(values: Array) -> _Spread:
    networks, count = values.shape
    if networks == 1:
        return _Spread(0.0, 0.0, 0)
    means = values.mean(axis=1)
    residuals = values - values.mean(axis=0) - means[:, np.newaxis] + values.mean()
    residual = float((residuals**2).sum()) / ((networks - 1) * (count - 1))
    return _Spread(float(means.var(ddof=1)) / networks, residual / count / networks, networks - 1)


def _of_examples(paired: Array, pseudo_examples: float, *, size: float) -> tuple[float, float]:
    """Return the mean of paired differences [N] and its variance, with pseudo-examples of +size and -size each."""
    count = len(paired) + 2 * pseudo_examples
    mean = float(paired.sum()) / count
    squares = float((paired**2).sum()) + 2 * pseudo_examples * size**2
    return mean, max(0.0, squares - count * mean**2) / (count - 1) / count


def _student(degrees: float, confidence: float) -> float:
    from scipy.stats import norm, t

    share = (1 + confidence) / 2
    return float(norm.ppf(share) if math.isinf(degrees) else t.ppf(share, degrees))


@dataclass(frozen=True)
class Answers:
    """The answers of the networks of one side to the same examples: hits and losses [networks, N]."""

    ids: tuple[str, ...]
    hits: Array
    losses: Array

    def accuracies(self) -> Array:
        """Return the accuracy of each network, [networks]."""
        return self.hits.mean(axis=1)


@dataclass(frozen=True)
class Comparison:
    """Two sides on the same examples: what each answered, and how far apart they are in accuracy and in loss."""

    first: Answers
    second: Answers
    accuracy: Difference
    loss: Difference

    @property
    def examples(self) -> int:
        return len(self.first.ids)

    @property
    def differing(self) -> tuple[int, int]:
        """Return how many examples the first side answers better, and how many the second."""
        paired = self.first.hits.mean(axis=0) - self.second.hits.mean(axis=0)
        return int((paired > 0).sum()), int((paired < 0).sum())


def compare(first: "list[pd.DataFrame]", second: "list[pd.DataFrame]") -> Comparison:
    """Return how two sides differ, each given by the predictions of its networks (COLUMNS, as `evaluate` logs them).

    Examples that one of them could not read are left out. Raises DataError where fewer than two are left, or where two
    tables disagree about the label of an example.
    """
    tables = [table.astype({"id": str, "actual": str, "predicted": str}).set_index("id") for table in (*first, *second)]
    ids = sorted(set.intersection(*(set(table.index) for table in tables)))
    if len(ids) < 2:
        raise DataError(f"expected at least 2 test examples that every classifier has answered, found {len(ids)}")
    rows = [table.loc[ids] for table in tables]
    if any(list(table["actual"]) != list(rows[0]["actual"]) for table in rows):
        raise DataError("the labels of the test examples differ between the two: they were not scored on the same data")
    ours, theirs = _answers(ids, rows[: len(first)]), _answers(ids, rows[len(first) :])
    return Comparison(
        ours,
        theirs,
        accuracy=difference(ours.hits, theirs.hits, pseudo_examples=PSEUDO_EXAMPLES),
        loss=difference(ours.losses, theirs.losses),
    )


def _answers(ids: list[str], tables: "list[pd.DataFrame]") -> Answers:
    hits = np.stack([np.asarray(table["actual"] == table["predicted"], np.float64) for table in tables])
    probabilities = np.stack([np.asarray(table["probability_of_actual"], np.float64) for table in tables])
    return Answers(tuple(ids), hits, -np.log(np.maximum(probabilities, SMALLEST)))


def sentences(comparison: Comparison) -> list[str]:
    """Return what the comparison says in plain words: the difference, what chance does to it, and what would help."""
    return [_verdict(comparison.accuracy), _chance(comparison), *_advice(comparison)]


def loss_sentence(comparison: Comparison) -> str:
    """Return the difference in loss, in which lower is better."""
    limits = comparison.loss.interval
    words = {"better": "B's is lower", "worse": "A's is lower", "unclear": "not clear which is lower"}
    return f"Loss: A - B is {limits.low:+.4f} to {limits.high:+.4f} (95 %), {words[comparison.loss.verdict]}."


def _verdict(accuracy: Difference) -> str:
    limits = accuracy.interval
    if accuracy.verdict == "unclear":
        return (
            f"Not clear which is better: A - B is {_points(limits.low, sign=True)} to "
            f"{_points(limits.high, sign=True)} points of accuracy (95 %), measured "
            f"{_points(limits.estimate, sign=True)}."
        )
    better, shown = ("A", limits) if accuracy.verdict == "better" else ("B", (-accuracy).interval)
    return (
        f"{better} is better by {_points(shown.low)} to {_points(shown.high)} points of accuracy (95 %), "
        f"measured {_points(shown.estimate)}."
    )


def _chance(comparison: Comparison) -> str:
    accuracy = comparison.accuracy
    factor = _student(accuracy.degrees, CONFIDENCE)
    moved = _points(factor * accuracy.examples)
    count = f"Other test examples ({comparison.examples:,}) could move it by {moved} points"
    if _seeds(comparison):
        return f"{count}, other seeds by {_points(factor * accuracy.seeds)}; the interval holds both."
    return f"{count}; of two networks, the seeds are not part of it (train.repeats measures them)."


def _advice(comparison: Comparison) -> list[str]:
    """Return what would make an unclear difference clear, where something would."""
    accuracy, estimate = comparison.accuracy, abs(comparison.accuracy.interval.estimate)
    if accuracy.verdict != "unclear" or not estimate:
        return []
    if accuracy.seeds > accuracy.examples:
        return ["More repeats would narrow it most."]
    needed = comparison.examples * (2 * accuracy.examples / estimate) ** 2
    return [f"To tell a difference of this size, about {_round(needed):,} test examples would be needed."]


def _seeds(comparison: Comparison) -> bool:
    return max(len(comparison.first.hits), len(comparison.second.hits)) > 1


def _points(share: float, *, sign: bool = False) -> str:
    """Return a share as percentage points, with two digits below one point."""
    points = 100 * share
    return f"{points:{'+' if sign else ''}.{2 if abs(points) < 0.995 else 1}f}"


def _round(number: float) -> int:
    """Return a number with two significant digits."""
    step = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / step) * step
