"""How well stated probabilities agree with the share of correct answers.

Examples are put into bins of equal width by their highest probability; a bin includes its upper end. What is drawn
pools neighbouring bins that have few examples. Not
`sklearn.calibration.calibration_curve`, which returns no counts: without them bins cannot be weighted.
"""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowerml.evaluation.intervals import Counts, Interval

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

BINS = 15
LEAST = 10  # examples in a bin of the table; the calibration error is of all bins as they are


class CalibrationError:
    """The expected calibration error (Naeini et al., 2015), for examples weighted by how often they were drawn.

    The mean over examples of the gap between confidence and accuracy in their bin. With few examples it is above 0 for
    a perfectly calibrated model too. An example's bin does not depend on the draw, so it is looked up once.

    >>> probabilities = np.array([[0.9, 0.1], [0.9, 0.1]])
    >>> error = CalibrationError(probabilities, np.array([True, False]))
    >>> round(error(np.array([1, 1])), 3), round(error(np.array([2, 0])), 3)
    (0.4, 0.1)
    """

    def __init__(self, probabilities: Array, hits: NDArray[np.bool_], *, bins: int = BINS) -> None:
        confidence = probabilities.max(axis=1)
        self._bins, self._bin_of = bins, bin_numbers(confidence, bins)
        self._gap, self._mean = confidence - hits, float(confidence.mean())
        self._sample_gaps = self._gaps(np.ones(len(hits), dtype=np.int64))

    def __call__(self, counts: Counts) -> float:
        """Return the error where each example occurs `counts` [N] times."""
        return float(np.abs(self._gaps(counts)).sum())

    def noise(self, counts: Counts) -> dict[str, float]:
        """Return {"noise"}: how far a draw's gaps are from the sample's, summed over bins."""
        return {"noise": float(np.abs(self._gaps(counts) - self._sample_gaps).sum())}

    def widened(self, interval: Interval, accuracy: Interval) -> Interval:
        """Return an interval of the error that also holds the gaps to all accuracies between the limits of `accuracy`.

        For answers that are all correct, or all wrong: these are so in every draw, and only their confidence differs.
        """
        below, above = self._mean - accuracy.low, accuracy.high - self._mean
        smallest = max(0.0, -below, -above)
        return Interval(interval.estimate, min(interval.low, smallest), max(interval.high, below, above))

    def _gaps(self, counts: Counts) -> Array:
        """Return (confidence - accuracy) * (share of the examples) of each bin."""
        return np.bincount(self._bin_of, weights=counts * self._gap, minlength=self._bins + 1) / counts.sum()


def expected_calibration_error(probabilities: Array, targets: Indices, *, bins: int = BINS) -> float:
    """Return the `CalibrationError` of the examples as they are; NaN for none. probabilities [N, C], targets [N]."""
    if not len(targets):
        return math.nan
    hits = probabilities.argmax(axis=1) == targets
    return CalibrationError(probabilities, hits, bins=bins)(np.ones(len(targets), dtype=np.int64))


def reliability_table(probabilities: Array, targets: Indices, *, bins: int = BINS, least: int = LEAST) -> pd.DataFrame:
    """Return confidence (mean highest probability), accuracy and count of each bin, ascending.

    probabilities [N, C], targets [N]. Neighbouring bins are pooled until each has at least `least` examples, if there
    are so many: the accuracy of three examples is 0, 33, 67 or 100 %, and would be drawn as a jump.
    """
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == targets
    pools = _pools(bin_numbers(confidence, bins), bins, least)
    grouped = pd.DataFrame({"bin": pools, "confidence": confidence, "accuracy": hits.astype(np.float64)}).groupby("bin")
    return grouped.mean().assign(count=grouped.size()).reset_index(drop=True)


def _pools(numbers: Indices, bins: int, least: int) -> Indices:
    """Return the pool of each example, [N]: bins are joined upwards, and what is left over joins the last pool."""
    pool_of, pool, waiting = np.zeros(bins + 1, dtype=np.int64), 0, 0
    for number, count in enumerate(np.bincount(numbers, minlength=bins + 1).tolist()):
        pool_of[number] = pool
        waiting += count
        if waiting >= least:
            pool, waiting = pool + 1, 0
    return np.minimum(pool_of, max(pool - 1, 0))[numbers]


def bin_numbers(confidence: Array, bins: int) -> Indices:
    """Return each example's bin, from 1 to `bins`; confidence [N] is between 0 and 1."""
    return np.ceil(confidence * bins).clip(1, bins).astype(np.int64)
