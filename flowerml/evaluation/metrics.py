"""The headline numbers of an evaluation, of the examples as they are or as a bootstrap has drawn them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flowerml.classifier import calibration
from flowerml.classifier.calibration import Calibration
from flowerml.evaluation import intervals
from flowerml.evaluation.intervals import Counts, Interval

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


class Headline:
    """The numbers of the answers to labelled examples; probabilities [N, C], targets [N] are class indices.

    accuracy, loss (cross-entropy in nats) and macro_f1 (over classes with examples); for a `top_k` between 1 and C
    top_<k>_accuracy; for two classes roc_auc, of the second; ece, see `calibration.expected_calibration_error`. With
    the probabilities as they were `before` calibration [N, C] also ece_uncalibrated; with which answers are `known`
    [N] known_share (of the examples) and known_accuracy (of these; of none nan).
    """

    def __init__(
        self,
        probabilities: Array,
        targets: Indices,
        *,
        top_k: int,
        before: Array | None,
        known: NDArray[np.bool_] | None,
    ) -> None:
        self._targets, self._classes = targets, probabilities.shape[1]
        self._predicted = np.argmax(probabilities, axis=1)
        self._hits = self._predicted == targets
        self._loss = losses(probabilities, targets)
        self._top = {}
        if 1 < top_k < self._classes:
            self._top = {f"top_{top_k}_accuracy": top_k_hits(probabilities, targets, top_k)}
        self._ranks = _Ranks(probabilities[:, 1], targets) if self._classes == 2 and len(set(targets)) == 2 else None
        self._gaps = {"ece": _Gaps(probabilities, self._hits)}
        if before is not None:
            self._gaps["ece_uncalibrated"] = _Gaps(before, self._hits)
        self._known = known

    def __call__(self, counts: Counts) -> dict[str, float]:
        """The numbers where each example counts so often, [N]."""
        count = counts.sum()
        numbers = {"accuracy": counts @ self._hits / count, "loss": counts @ self._loss / count}
        numbers["macro_f1"] = self._macro_f1(counts)
        numbers |= {name: counts @ hits / count for name, hits in self._top.items()}
        if self._ranks is not None:
            numbers["roc_auc"] = self._ranks(counts)
        numbers |= {name: gaps(counts) for name, gaps in self._gaps.items()}
        if self._known is not None:
            known = counts @ self._known
            numbers["known_share"] = known / count
            numbers["known_accuracy"] = counts @ (self._known & self._hits) / known if known else np.nan
        return {name: float(value) for name, value in numbers.items()}

    def numbers(self) -> dict[str, float]:
        """The numbers of the examples as they are."""
        return self(np.ones(len(self._targets), dtype=np.int64))

    def intervals(self, *, resamples: int, seed: int) -> dict[str, Interval]:
        """The same with bootstrap intervals, see `flowerml.evaluation.intervals`.

        A share that is 0 or 1 is so in every draw: it has Wilson's limits. A calibration error is above 0 by chance
        alone, and in a draw more so, and no percentile would hold the 0 of a classifier that is perfectly calibrated:
        its lower limit is as far below the estimate as 19 of 20 draws at most are from the sample, all bins together.
        """
        drawn = {"resamples": resamples, "seed": seed}
        found = intervals.bootstrap(self, len(self._targets), **drawn)
        for name, gaps in self._gaps.items():
            noise = intervals.bootstrap(gaps.noise, len(self._targets), **drawn, confidence=0.9)["noise"].high
            one = found[name]
            found[name] = Interval(one.estimate, max(0.0, one.estimate - noise), one.high)
        for name, of in self._shares().items():
            if found[name].estimate in (0, 1):
                found[name] = intervals.share(round(found[name].estimate * of), of)
        return found

    def _shares(self) -> Mapping[str, int]:
        """What is a share of examples, and of how many."""
        count = len(self._targets)
        shares = dict.fromkeys(("accuracy", *self._top), count)
        if self._known is not None:
            shares |= {"known_share": count, "known_accuracy": int(self._known.sum())}
        return shares

    def _macro_f1(self, counts: Counts) -> float:
        actual, predicted = (
            np.bincount(of, weights=counts, minlength=self._classes) for of in (self._targets, self._predicted)
        )
        right = np.bincount(self._targets, weights=counts * self._hits, minlength=self._classes)
        there = actual > 0
        return float((2 * right[there] / (actual + predicted)[there]).mean())


class _Ranks:
    """The area under the ROC curve: how often one of the second class is scored above one of the first."""

    def __init__(self, scores: Array, targets: Indices) -> None:
        self._levels = np.unique(scores, return_inverse=True)[1]
        self._second = targets == 1

    def __call__(self, counts: Counts) -> float:
        second = np.bincount(self._levels, weights=counts * self._second)
        first = np.bincount(self._levels, weights=counts * ~self._second)
        pairs = first.sum() * second.sum()
        return float(second @ (np.cumsum(first) - first / 2) / pairs) if pairs else np.nan


class _Gaps:
    """The expected calibration error; an example stays in its bin however often it is drawn."""

    def __init__(self, probabilities: Array, hits: NDArray[np.bool_]) -> None:
        best = probabilities.max(axis=1)
        self._bins = np.ceil(best * calibration.BINS).clip(1, calibration.BINS).astype(np.int64)
        self._apart = best - hits
        self._found = self._of_bins(np.ones(len(hits), dtype=np.int64))

    def __call__(self, counts: Counts) -> float:
        return float(np.abs(self._of_bins(counts)).sum())

    def noise(self, counts: Counts) -> dict[str, float]:
        """How far the gaps of a draw are from those of the sample."""
        return {"noise": float(np.abs(self._of_bins(counts) - self._found).sum())}

    def _of_bins(self, counts: Counts) -> Array:
        """Confidence less accuracy in each bin, times the bin's share of the examples."""
        return np.bincount(self._bins, weights=counts * self._apart, minlength=calibration.BINS + 1) / counts.sum()


def losses(probabilities: Array, targets: Indices) -> Array:
    """The cross-entropy of each answer in nats, [N]."""
    told = probabilities[np.arange(len(targets)), targets]
    return -np.log(np.maximum(told, np.finfo(np.float64).tiny))


def top_k_hits(probabilities: Array, targets: Indices, k: int) -> NDArray[np.bool_]:
    """Whether each target is among the k most probable classes, [N]; of equals the first."""
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return (top == targets[:, None]).any(axis=1)


def uncalibrated(probabilities: Array, own: Calibration) -> Array:
    """The probabilities before the temperature: softmax(logits) from softmax(logits / temperature), [N, C]."""
    powers = probabilities**own.temperature
    return powers / powers.sum(axis=1, keepdims=True)
