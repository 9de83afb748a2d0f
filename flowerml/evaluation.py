"""How good a classifier is on examples it has not seen: numbers, tables, and what DVC draws."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics

from flowerml import files
from flowerml.classifier import Classifier, Probabilities
from flowerml.examples import Example


@dataclass(frozen=True)
class Evaluation:
    """The answers of a classifier on labelled examples. probabilities [N, C], targets [N] are class indices."""

    classes: tuple[str, ...]
    names: dict[str, str]
    ids: tuple[str, ...]
    targets: NDArray[np.int64]
    probabilities: Probabilities

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each example, [N]; of equals the first."""
        return np.argmax(self.probabilities, axis=1)

    def metrics(self, *, top_k: int) -> dict[str, float]:
        """accuracy, loss (cross-entropy in nats) and macro_f1 (over classes with examples).

        For a `top_k` between 1 and the number of classes top_<k>_accuracy; for two classes roc_auc, of the second.
        """
        true = self.probabilities[np.arange(len(self.targets)), self.targets]
        numbers = {
            "accuracy": float(np.mean(self.predicted == self.targets)),
            "loss": float(-np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean()),
            "macro_f1": float(self.per_class().query("support > 0")["f1"].mean()),
        }
        if 1 < top_k < len(self.classes):
            numbers[f"top_{top_k}_accuracy"] = top_k_accuracy(self.probabilities, self.targets, top_k)
        if len(self.classes) == 2 and len(set(self.targets)) == 2:
            numbers["roc_auc"] = float(metrics.roc_auc_score(self.targets, self.probabilities[:, 1]))
        return numbers

    def per_class(self) -> pd.DataFrame:
        """precision, recall, f1 and support of each class, in the order of `classes`."""
        columns = metrics.precision_recall_fscore_support(
            self.targets, self.predicted, labels=range(len(self.classes)), zero_division=0
        )
        table = pd.DataFrame(dict(zip(("precision", "recall", "f1", "support"), columns, strict=True)))
        table.insert(0, "name", [self.names[label] for label in self.classes])
        table.insert(0, "label", self.classes)
        return table

    def confusion(self) -> pd.DataFrame:
        """One row for each example with its actual and predicted class: what DVC's confusion template counts."""
        return pd.DataFrame({"actual": self._labels(self.targets), "predicted": self._labels(self.predicted)})

    def predictions(self) -> pd.DataFrame:
        """id, actual, predicted and the probability of each, worst mistakes first."""
        rows = np.arange(len(self.targets))
        table = self.confusion()
        table.insert(0, "id", self.ids)
        table["probability"] = self.probabilities[rows, self.predicted].round(6)
        table["probability_of_actual"] = self.probabilities[rows, self.targets].round(6)
        return table.sort_values(["probability_of_actual", "id"], kind="stable")

    def write(self, folder: Path, *, top_k: int) -> dict[str, float]:
        """metrics.json, per_class.csv, confusion.csv and predictions.csv into `folder`; gives the metrics."""
        folder.mkdir(parents=True, exist_ok=True)
        numbers = self.metrics(top_k=top_k)
        files.write_csv(folder / "per_class.csv", self.per_class().round(6))
        files.write_csv(folder / "confusion.csv", self.confusion())
        files.write_csv(folder / "predictions.csv", self.predictions())
        files.write_json(folder / "metrics.json", numbers)
        return numbers

    def _labels(self, indices: NDArray[np.int64]) -> list[str]:
        return [self.classes[index] for index in indices]


def evaluate(classifier: Classifier, examples: Iterable[Example], *, batch_size: int) -> Evaluation:
    """Put raw examples through the classifier, by the same door as everyone else; memory is bounded."""
    index = {label: number for number, label in enumerate(classifier.classes)}
    known: list[tuple[str, int]] = []

    def raws() -> Iterable[Any]:
        for example in examples:
            known.append((example.id, index[example.label]))
            yield example.raw

    probabilities = classifier.probabilities(raws(), batch_size=batch_size)
    ids, targets = zip(*known, strict=True)
    return Evaluation(classifier.classes, classifier.names, ids, np.array(targets), probabilities)


def top_k_accuracy(probabilities: Probabilities, targets: NDArray[np.int64], k: int) -> float:
    """Share of rows whose target is among their k most probable classes. probabilities [N, C], targets [N]."""
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((top == targets[:, None]).any(axis=1).mean())
