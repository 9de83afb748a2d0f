"""How good a classifier is on labelled examples of any source, whether it is loaded here or served."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowerml.answering import in_place
from flowerml.classifier import BATCH_SIZE, Classifier, Probabilities
from flowerml.endpoint import Answer, Endpoint
from flowerml.errors import DataError, InputError, ModelError
from flowerml.evaluation import Evaluation
from flowerml.labelled import Labelled
from flowerml.layout import Row

Told = Callable[[Row, InputError | None], None]


@dataclass
class _Gathered:
    """The answers so far, and the examples they are to."""

    rows: list[Row] = field(default_factory=list)
    probabilities: list[Probabilities] = field(default_factory=list)

    def evaluation(self, classes: tuple[str, ...], names: dict[str, str]) -> Evaluation:
        if not self.rows:
            raise DataError("none of the examples could be read, so there is nothing to score")
        index = {label: number for number, label in enumerate(classes)}
        targets = np.array([index[row.label] for row in self.rows], dtype=np.int64)
        ids = tuple(row.id for row in self.rows)
        return Evaluation(classes, names, ids, targets, np.stack(self.probabilities))


def of_classifier(classifier: Classifier, labelled: Labelled, *, told: Told) -> Evaluation:
    """The answers of a loaded classifier; `told` hears of each example, and why where it cannot be read.

    Raises DataError where the labels are not the classifier's, or nothing can be read.
    """
    _check_labels(labelled, classifier.classes)
    gathered = _Gathered()

    def answer(raws: Iterator[Any]) -> Iterator[Probabilities | InputError]:
        return classifier.probabilities_each(raws, batch_size=BATCH_SIZE)

    for row, found in in_place(labelled.read(), answer):
        told(row, found if isinstance(found, InputError) else None)
        if not isinstance(found, InputError):
            gathered.rows.append(row)
            gathered.probabilities.append(found)
    return gathered.evaluation(classifier.classes, classifier.names)


def of_endpoint(endpoint: Endpoint, labelled: Labelled, *, told: Told) -> Evaluation:
    """The same of a served classifier, whose classes show in its answers. Raises ModelError where it is not well."""
    gathered = _Gathered()
    first: Answer | None = None
    for row, found in in_place(labelled.read(), endpoint.answers):
        told(row, found if isinstance(found, InputError) else None)
        if isinstance(found, InputError):
            continue
        if first is None:
            first = found
            _check_labels(labelled, tuple(sorted(first.names)))
        gathered.rows.append(row)
        gathered.probabilities.append(_vector(found, first, endpoint))
    names = first.names if first else {}
    return gathered.evaluation(tuple(sorted(names)), names)


def _vector(answer: Answer, first: Answer, endpoint: Endpoint) -> Probabilities:
    if answer.probabilities.keys() != first.probabilities.keys():
        raise ModelError(f"{endpoint.shown}: answered with other classes than before; was the model changed meanwhile?")
    return np.array([answer.probabilities[label] for label in sorted(first.names)])


def _check_labels(labelled: Labelled, classes: tuple[str, ...]) -> None:
    unknown = [label for label in labelled.labels if label not in classes]
    if unknown:
        raise DataError(
            f"{len(unknown)} of the {len(labelled.labels)} labels of the data are no classes of this classifier "
            f"({_few(unknown)}); it knows {_few(list(classes))}"
        )


def _few(labels: list[str]) -> str:
    return ", ".join(labels[:5]) + (", …" if len(labels) > 5 else "")
