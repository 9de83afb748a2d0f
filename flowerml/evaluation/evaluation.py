"""How good a classifier is on examples that it was not trained on: metrics with intervals, tables, and DVC's plots."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from flowerml.classifier.calibration import Calibration
from flowerml.classifier.classifier import Classifier, Probabilities
from flowerml.core import files
from flowerml.core.errors import DataError
from flowerml.data.examples import Example, Raw
from flowerml.evaluation import confusions, intervals, reliability, slices
from flowerml.evaluation.intervals import Interval
from flowerml.evaluation.metrics import BootstrapMetrics, undo_temperature
from flowerml.evaluation.slices import Properties
from flowerml.tasks.properties import input_properties

SEED = 0  # of the bootstrap: the same answers have the same limits
CURVE_POINTS = 200


@dataclass(frozen=True)
class Evaluation:
    """The answers of a classifier to labelled examples. probabilities [N, C]; targets [N] are class indices.

    `calibration` is the classifier's own; None for a served one, which does not send it. `known` [N] is whether the
    classifier is confident of each answer, and `out_of_distribution` [N] how unlike the training examples each input is
    (0 to 1, rejected above 0.5); None where it does not say. `properties` [N] describe each input; empty where they
    were not computed.

    >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> names = {"neg": "negative", "pos": "positive"}
    >>> evaluation = Evaluation(("neg", "pos"), names, ("a", "b", "c"), np.array([0, 1, 1]), probabilities)
    >>> evaluation.hits.tolist(), round(evaluation.metrics(top_k=5)["accuracy"], 3)
    ([True, True, False], 0.667)
    """

    classes: tuple[str, ...]
    names: dict[str, str]
    ids: tuple[str, ...]
    targets: NDArray[np.int64]
    probabilities: Probabilities
    calibration: Calibration | None = None
    known: NDArray[np.bool_] | None = None
    out_of_distribution: NDArray[np.float64] | None = None
    properties: tuple[Properties, ...] = ()

    @classmethod
    def from_classifier(
        cls,
        classifier: Classifier,
        ids: Sequence[str],
        targets: NDArray[np.int64],
        probabilities: Probabilities,
        strangeness: NDArray[np.float64] | None,
        properties: Sequence[Properties],
    ) -> Self:
        """Return the evaluation of the answers that a loaded classifier gave."""
        calibration = classifier.calibration
        strange = [None] * len(ids) if strangeness is None else strangeness.tolist()
        shares = [calibration.out_of_distribution(value) for value in strange]
        return cls(
            classes=classifier.classes,
            names=classifier.names,
            ids=tuple(ids),
            targets=targets,
            probabilities=probabilities,
            calibration=calibration,
            known=np.array(list(map(calibration.is_known, probabilities, strange)), dtype=bool),
            out_of_distribution=None if None in shares else np.array(shares, dtype=np.float64),
            properties=tuple(properties),
        )

    @property
    def strange(self) -> NDArray[np.bool_] | None:
        """Return whether each input was rejected as unlike the training examples, [N]; None where it is not said."""
        return None if self.out_of_distribution is None else self.out_of_distribution > 0.5

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Return the most probable class of each example, [N]; ties are broken by class order."""
        return np.argmax(self.probabilities, axis=1)

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Return whether each example was classified correctly, [N]."""
        return self.predicted == self.targets

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Return the probability of each predicted class, [N]."""
        return self.probabilities.max(axis=1)

    @property
    def uncalibrated(self) -> Probabilities | None:
        """Return the probabilities before calibration, [N, C]; None where the calibration is not known."""
        return None if self.calibration is None else undo_temperature(self.probabilities, self.calibration)

    def metrics(self, *, top_k: int) -> dict[str, float]:
        """Return the metrics of `BootstrapMetrics`; those that are not finite are left out."""
        metrics = self._bootstrap_metrics(top_k).of_sample()
        return {name: value for name, value in metrics.items() if np.isfinite(value)}

    def intervals(self, *, top_k: int, resamples: int) -> dict[str, Interval]:
        """Return the same with 95 % bootstrap intervals."""
        metrics = self._bootstrap_metrics(top_k).intervals(resamples=resamples, seed=SEED)
        return {name: interval for name, interval in metrics.items() if np.isfinite(interval.estimate)}

    def per_class(self) -> pd.DataFrame:
        """Return label, name, precision, recall, f1 and support of each class, in the order of `classes`."""
        columns = sklearn_metrics.precision_recall_fscore_support(
            self.targets, self.predicted, labels=range(len(self.classes)), zero_division=0
        )
        table = pd.DataFrame(dict(zip(("precision", "recall", "f1", "support"), columns, strict=True)))
        table.insert(0, "name", [self.names[label] for label in self.classes])
        table.insert(0, "label", self.classes)
        return table

    def confusion(self) -> pd.DataFrame:
        """Return the actual and the predicted label of each example, which DVC's confusion template counts."""
        return pd.DataFrame({"actual": self._labels(self.targets), "predicted": self._labels(self.predicted)})

    def most_confused(self, *, most: int) -> list[confusions.ConfusedPair]:
        """Return the pairs of classes with the most mistakes between them, most first."""
        return confusions.most_confused(self.targets, self.predicted, most=most)

    def mistakes(self, *, most: int) -> NDArray[np.int64]:
        """Return the rows of the mistakes that gave the correct class the smallest probability, worst first."""
        rows = np.flatnonzero(~self.hits)
        of_targets = self.probabilities[rows, self.targets[rows]]
        return rows[np.argsort(of_targets, kind="stable")][:most]

    def slices(self) -> pd.DataFrame:
        """Return the accuracy on slices of the examples, worst first: see `slices.slice_table`."""
        if self.out_of_distribution is None or not self.properties:
            return slices.slice_table(self.properties, self.hits)
        shares = self.out_of_distribution.tolist()
        properties = [
            {**values, "out of distribution": share} for values, share in zip(self.properties, shares, strict=True)
        ]
        return slices.slice_table(properties, self.hits)

    def reliability(self) -> pd.DataFrame:
        """Return confidence, accuracy and count of each bin, with `probabilities`: calibrated or uncalibrated."""
        variants = {"uncalibrated": self.uncalibrated, "calibrated": self.probabilities}
        tables = [
            reliability.reliability_table(probabilities, self.targets).assign(probabilities=name)
            for name, probabilities in variants.items()
            if probabilities is not None
        ]
        return pd.concat(tables, ignore_index=True)

    def coverage(self) -> pd.DataFrame:
        """Return what each threshold on the probability would accept: threshold, share, and accuracy among these."""
        order = np.argsort(-self.confidence, kind="stable")
        confidence = self.confidence[order]
        accepted = np.arange(1, len(order) + 1)
        accuracy = np.cumsum(self.hits[order]) / accepted
        last_of_ties = np.append(confidence[1:] < confidence[:-1], True)  # ties are accepted together
        rows = np.flatnonzero(last_of_ties)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, CURVE_POINTS).round().astype(int))]
        columns = {"threshold": confidence, "share": accepted / len(order), "accuracy": accuracy}
        return pd.DataFrame({name: values[rows] for name, values in columns.items()})

    def predictions(self) -> pd.DataFrame:
        """Return id, actual, predicted and the probability of each, worst mistakes first.

        With `known` and `out_of_distribution` of each, where the classifier says so.
        """
        rows = np.arange(len(self.targets))
        table = self.confusion()
        table.insert(0, "id", self.ids)
        table["probability"] = self.confidence.round(6)
        table["probability_of_actual"] = self.probabilities[rows, self.targets].round(6)
        if self.known is not None:
            table["known"] = self.known
        if self.out_of_distribution is not None:
            table["out_of_distribution"] = self.out_of_distribution.round(6)
        return table.sort_values(["probability_of_actual", "id"], kind="stable")

    def write(
        self, folder: Path, *, top_k: int, resamples: int, repeats: Mapping[str, float] | None = None
    ) -> dict[str, Interval]:
        """Write metrics.json, intervals.json and all tables into `folder`; return the metrics with their intervals.

        The metrics of `repeats` are added to metrics.json.
        """
        folder.mkdir(parents=True, exist_ok=True)
        metrics = self.intervals(top_k=top_k, resamples=resamples)
        tables = {
            "per_class": self.per_class(),
            "confusion": self.confusion(),
            "predictions": self.predictions(),
            "slices": self.slices(),
            "reliability": self.reliability(),
            "coverage": self.coverage(),
        }
        for name, table in tables.items():
            files.write_csv(folder / f"{name}.csv", table.round(6))
        described = {
            "confidence": intervals.CONFIDENCE,
            "resamples": resamples,
            "examples": len(self.targets),
            "intervals": {name: interval.limits() for name, interval in metrics.items()},
        }
        files.write_json(folder / "intervals.json", described)
        estimates = {name: interval.estimate for name, interval in metrics.items()}
        files.write_json(folder / "metrics.json", {**estimates, **(repeats or {})})
        return metrics

    def _bootstrap_metrics(self, top_k: int) -> BootstrapMetrics:
        return BootstrapMetrics(
            self.probabilities, self.targets, top_k=top_k, uncalibrated=self.uncalibrated, known=self.known
        )

    def _labels(self, indices: NDArray[np.int64]) -> list[str]:
        return [self.classes[index] for index in indices]


def evaluate(classifier: Classifier, examples: Iterable[Example], *, batch_size: int) -> Evaluation:
    """Return the evaluation of a classifier on raw examples, read as they are needed.

    It predicts with `Classifier.probabilities`, as every other caller does. Raises DataError without examples.
    """
    ids: list[str] = []
    labels: list[str] = []
    properties: list[Properties] = []

    def raws() -> Iterator[Raw]:
        for example in examples:
            ids.append(example.id)
            labels.append(example.label)
            properties.append(input_properties(classifier.task, example.raw))
            yield example.raw

    probabilities, strangeness = classifier.scored(raws(), batch_size=batch_size)
    return of_answers(classifier, ids, labels, probabilities, strangeness, properties)


def of_answers(
    classifier: Classifier,
    ids: Sequence[str],
    labels: Sequence[str],
    probabilities: Probabilities,
    strangeness: NDArray[np.float64] | None,
    properties: Sequence[Properties],
) -> Evaluation:
    """Return the evaluation of the answers to examples with these labels. Raises DataError without examples."""
    if not ids:
        raise DataError("expected examples to evaluate on, found none")
    index = {label: number for number, label in enumerate(classifier.classes)}
    targets = np.array([index[label] for label in labels])
    return Evaluation.from_classifier(classifier, ids, targets, probabilities, strangeness, properties)
