"""How good a classifier is on labelled examples of any source, whether it is loaded here or served."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowerml.classifier.classifier import BATCH_SIZE, Classifier, Probabilities
from flowerml.core.display import preview_list
from flowerml.core.errors import DataError, InputError, ModelError
from flowerml.data.examples import Raw
from flowerml.data.layout import Row
from flowerml.engine.parallel import map_readable
from flowerml.evaluation.evaluation import Evaluation
from flowerml.evaluation.labelled import Labelled
from flowerml.evaluation.slices import Properties, properties_of
from flowerml.serving.client import Answer, Endpoint
from flowerml.tasks.registry import TASKS

Told = Callable[[Row, InputError | None], None]


@dataclass
class _Gathered:
    """The examples of a source as they are read, what each is like, and the answers so far."""

    labelled: Labelled
    rows: list[Row] = field(default_factory=list)
    probabilities: list[Probabilities] = field(default_factory=list)
    properties: dict[str, Properties] = field(default_factory=dict)

    def read(self) -> Iterator[tuple[Row, Raw | InputError]]:
        task = TASKS[self.labelled.kind]
        for row, raw in self.labelled.read():
            if not isinstance(raw, InputError):
                self.properties[row.id] = properties_of(task, raw)
            yield row, raw

    def targets(self, classes: tuple[str, ...]) -> NDArray[np.int64]:
        if not self.rows:
            raise DataError("none of the examples could be read, so there is nothing to score")
        index = {label: number for number, label in enumerate(classes)}
        return np.array([index[row.label] for row in self.rows], dtype=np.int64)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(row.id for row in self.rows)

    @property
    def of_each(self) -> tuple[Properties, ...]:
        return tuple(self.properties[id] for id in self.ids)


def of_classifier(classifier: Classifier, labelled: Labelled, *, told: Told) -> Evaluation:
    """The answers of a loaded classifier; `told` hears of each example, and why where it cannot be read.

    Raises DataError where the labels are not the classifier's, or nothing can be read.
    """
    _check_labels(labelled, classifier.classes)
    gathered = _Gathered(labelled)

    def answer(raws: Iterator[Any]) -> Iterator[Probabilities | InputError]:
        return classifier.probabilities_each(raws, batch_size=BATCH_SIZE)

    for row, found in map_readable(gathered.read(), answer):
        told(row, found if isinstance(found, InputError) else None)
        if not isinstance(found, InputError):
            gathered.rows.append(row)
            gathered.probabilities.append(found)
    targets = gathered.targets(classifier.classes)
    probabilities = np.stack(gathered.probabilities)
    return Evaluation.of_classifier(classifier, gathered.ids, targets, probabilities, gathered.of_each)


def of_endpoint(endpoint: Endpoint, labelled: Labelled, *, told: Told) -> Evaluation:
    """The same of a served classifier, whose classes show in its answers. Raises ModelError where it is not well."""
    gathered = _Gathered(labelled)
    first: Answer | None = None
    known: list[bool | None] = []
    for row, found in map_readable(gathered.read(), endpoint.answers):
        told(row, found if isinstance(found, InputError) else None)
        if isinstance(found, InputError):
            continue
        if first is None:
            first = found
            _check_labels(labelled, tuple(sorted(first.names)))
        gathered.rows.append(row)
        gathered.probabilities.append(_vector(found, first, endpoint))
        known.append(found.known)
    names = first.names if first else {}
    classes = tuple(sorted(names))
    targets = gathered.targets(classes)
    said = None if None in known else np.array(known, dtype=bool)
    probabilities = np.stack(gathered.probabilities)
    return Evaluation(classes, names, gathered.ids, targets, probabilities, None, said, gathered.of_each)


def _vector(answer: Answer, first: Answer, endpoint: Endpoint) -> Probabilities:
    if answer.probabilities.keys() != first.probabilities.keys():
        raise ModelError(f"{endpoint.shown}: answered with other classes than before; was the model changed meanwhile?")
    return np.array([answer.probabilities[label] for label in sorted(first.names)])


def _check_labels(labelled: Labelled, classes: tuple[str, ...]) -> None:
    unknown = [label for label in labelled.labels if label not in classes]
    if unknown:
        raise DataError(
            f"{len(unknown)} of the {len(labelled.labels)} labels of the data are no classes of this classifier "
            f"({preview_list(unknown)}); it knows {preview_list(classes)}"
        )
