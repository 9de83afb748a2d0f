"""How good a classifier is on examples it has not seen: numbers with their limits, tables, and what DVC draws."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics as scores

from flowerml.classifier import calibration
from flowerml.classifier.calibration import Calibration
from flowerml.classifier.classifier import Classifier, Probabilities
from flowerml.core import files
from flowerml.core.errors import DataError
from flowerml.data.examples import Example
from flowerml.evaluation import confusions, intervals, slices
from flowerml.evaluation.intervals import Interval
from flowerml.evaluation.metrics import Headline, uncalibrated
from flowerml.evaluation.slices import Properties

SEED = 0  # of the draws: the same answers have the same limits
CURVE_POINTS = 200


@dataclass(frozen=True)
class Evaluation:
    """The answers of a classifier on labelled examples. probabilities [N, C], targets [N] are class indices.

    `calibration` is the classifier's own, None of a served one, which does not tell it. `known` [N] is whether the
    classifier takes each answer for probable enough, None where it does not say. `properties` [N] is what each example
    is like, empty where that was not looked at.
    """

    classes: tuple[str, ...]
    names: dict[str, str]
    ids: tuple[str, ...]
    targets: NDArray[np.int64]
    probabilities: Probabilities
    calibration: Calibration | None = None
    known: NDArray[np.bool_] | None = None
    properties: tuple[Properties, ...] = ()

    @classmethod
    def of_classifier(
        cls,
        classifier: Classifier,
        ids: Sequence[str],
        targets: NDArray[np.int64],
        probabilities: Probabilities,
        properties: Sequence[Properties],
    ) -> Self:
        """The answers of a classifier that is loaded here."""
        own = classifier.calibration
        known = np.array([own.is_known(row) for row in probabilities], dtype=bool)
        names = classifier.names
        return cls(classifier.classes, names, tuple(ids), targets, probabilities, own, known, tuple(properties))

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each example, [N]; of equals the first."""
        return np.argmax(self.probabilities, axis=1)

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each answer is right, [N]."""
        return self.predicted == self.targets

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of each answer, [N]."""
        return self.probabilities.max(axis=1)

    def metrics(self, *, top_k: int) -> dict[str, float]:
        """Return the headline numbers, see `Headline` in metrics.py; those that are not finite are left out."""
        return {name: value for name, value in self._headline(top_k).numbers().items() if np.isfinite(value)}

    def intervals(self, *, top_k: int, resamples: int) -> dict[str, Interval]:
        """The same with bootstrap intervals of 95 %."""
        found = self._headline(top_k).intervals(resamples=resamples, seed=SEED)
        return {name: one for name, one in found.items() if np.isfinite(one.estimate)}

    def per_class(self) -> pd.DataFrame:
        """precision, recall, f1 and support of each class, in the order of `classes`."""
        columns = scores.precision_recall_fscore_support(
            self.targets, self.predicted, labels=range(len(self.classes)), zero_division=0
        )
        table = pd.DataFrame(dict(zip(("precision", "recall", "f1", "support"), columns, strict=True)))
        table.insert(0, "name", [self.names[label] for label in self.classes])
        table.insert(0, "label", self.classes)
        return table

    def confusion(self) -> pd.DataFrame:
        """One row for each example with its actual and predicted class: what DVC's confusion template counts."""
        return pd.DataFrame({"actual": self._labels(self.targets), "predicted": self._labels(self.predicted)})

    def pairs(self, *, most: int) -> list[confusions.Pair]:
        """The pairs of classes that are most often taken for each other."""
        return confusions.pairs(self.targets, self.predicted, most=most)

    def mistakes(self, *, most: int) -> NDArray[np.int64]:
        """The rows of the wrong answers that gave the right one the smallest probability, worst first."""
        rows = np.flatnonzero(~self.hits)
        told = self.probabilities[rows, self.targets[rows]]
        return rows[np.argsort(told, kind="stable")][:most]

    def slices(self) -> pd.DataFrame:
        """How good the answers are on parts of the examples, worst first: see `flowerml.evaluation.slices.table`."""
        return slices.table(self.properties, self.hits)

    def reliability(self) -> pd.DataFrame:
        """confidence, accuracy and count of each bin of probabilities: `calibrated`, and as they were before."""
        every = {"uncalibrated": self.before(), "calibrated": self.probabilities}
        tables = [
            calibration.reliability(found, self.targets).assign(probabilities=name)
            for name, found in every.items()
            if found is not None
        ]
        return pd.concat(tables, ignore_index=True)

    def coverage(self) -> pd.DataFrame:
        """What each threshold on the probability would accept: threshold, share, and accuracy among these."""
        order = np.argsort(-self.confidence, kind="stable")
        sorted_confidence = self.confidence[order]
        accepted = np.arange(1, len(order) + 1)
        accuracy = np.cumsum(self.hits[order]) / accepted
        last = np.append(sorted_confidence[1:] < sorted_confidence[:-1], True)  # equals are accepted together
        rows = np.flatnonzero(last)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, CURVE_POINTS).round().astype(int))]
        columns = {"threshold": sorted_confidence, "share": accepted / len(order), "accuracy": accuracy}
        return pd.DataFrame({name: values[rows] for name, values in columns.items()})

    def predictions(self) -> pd.DataFrame:
        """id, actual, predicted and the probability of each, worst mistakes first."""
        rows = np.arange(len(self.targets))
        table = self.confusion()
        table.insert(0, "id", self.ids)
        table["probability"] = self.confidence.round(6)
        table["probability_of_actual"] = self.probabilities[rows, self.targets].round(6)
        return table.sort_values(["probability_of_actual", "id"], kind="stable")

    def write(self, folder: Path, *, top_k: int, resamples: int) -> dict[str, Interval]:
        """The numbers and all tables into `folder`; gives the numbers with their limits."""
        folder.mkdir(parents=True, exist_ok=True)
        found = self.intervals(top_k=top_k, resamples=resamples)
        tables = {
            **{"per_class": self.per_class(), "confusion": self.confusion(), "predictions": self.predictions()},
            **{"slices": self.slices(), "reliability": self.reliability(), "coverage": self.coverage()},
        }
        for name, table in tables.items():
            files.write_csv(folder / f"{name}.csv", table.round(6))
        limits = {name: one.limits() for name, one in found.items()}
        method = {"confidence": intervals.CONFIDENCE, "resamples": resamples, "examples": len(self.targets)}
        files.write_json(folder / "intervals.json", {**method, "intervals": limits})
        files.write_json(folder / "metrics.json", {name: one.estimate for name, one in found.items()})
        return found

    def before(self) -> Probabilities | None:
        """The probabilities before calibration, [N, C]; None where that is not known."""
        return None if self.calibration is None else uncalibrated(self.probabilities, self.calibration)

    def _headline(self, top_k: int) -> Headline:
        return Headline(self.probabilities, self.targets, top_k=top_k, before=self.before(), known=self.known)

    def _labels(self, indices: NDArray[np.int64]) -> list[str]:
        return [self.classes[index] for index in indices]


def evaluate(classifier: Classifier, examples: Iterable[Example], *, batch_size: int) -> Evaluation:
    """Put raw examples through the classifier, by the same door as everyone else; memory is bounded.

    Raises DataError where there are none.
    """
    index = {label: number for number, label in enumerate(classifier.classes)}
    known: list[tuple[str, int, Properties]] = []

    def raws() -> Iterable[Any]:
        for example in examples:
            known.append((example.id, index[example.label], slices.properties_of(classifier.task, example.raw)))
            yield example.raw

    probabilities = classifier.probabilities(raws(), batch_size=batch_size)
    if not known:
        raise DataError("there are no examples to score")
    ids, targets, properties = zip(*known, strict=True)
    return Evaluation.of_classifier(classifier, ids, np.array(targets), probabilities, properties)
