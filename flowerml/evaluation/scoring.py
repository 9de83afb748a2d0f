"""Evaluate a classifier on labelled examples from any source, whether it is loaded here or served."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flowerml.classifier.classifier import BATCH_SIZE, Classifier, Probabilities
from flowerml.core.display import preview_list
from flowerml.core.errors import DataError, InputError, ModelError
from flowerml.data.examples import Raw
from flowerml.data.layout import Row
from flowerml.engine.parallel import map_readable
from flowerml.evaluation.evaluation import Evaluation
from flowerml.evaluation.labelled import LabelledExamples
from flowerml.evaluation.slices import Properties
from flowerml.serving.answer import Scores
from flowerml.serving.client import Endpoint
from flowerml.tasks.properties import input_properties
from flowerml.tasks.registry import TASKS

OnExample = Callable[[Row, InputError | None], None]
"""Called after each example, with the reason where it could not be read."""


@dataclass
class _Answered:
    """The examples read so far, with the properties of each and the answers to them."""

    labelled: LabelledExamples
    rows: list[Row] = field(default_factory=list)
    probabilities: list[Probabilities] = field(default_factory=list)
    properties: dict[str, Properties] = field(default_factory=dict)

    def read(self) -> Iterator[tuple[Row, Raw | InputError]]:
        task = TASKS[self.labelled.kind]
        for row, raw in self.labelled.read():
            if not isinstance(raw, InputError):
                self.properties[row.id] = input_properties(task, raw)
            yield row, raw

    def add(self, row: Row, probabilities: Probabilities) -> None:
        self.rows.append(row)
        self.probabilities.append(probabilities)

    def targets(self, classes: tuple[str, ...]) -> NDArray[np.int64]:
        if not self.rows:
            raise DataError("none of the examples could be read, so there is nothing to evaluate")
        index = {label: number for number, label in enumerate(classes)}
        return np.array([index[row.label] for row in self.rows], dtype=np.int64)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(row.id for row in self.rows)

    @property
    def input_properties(self) -> tuple[Properties, ...]:
        return tuple(self.properties[id] for id in self.ids)


def evaluate_classifier(classifier: Classifier, labelled: LabelledExamples, *, on_example: OnExample) -> Evaluation:
    """Return the evaluation of a loaded classifier; unreadable examples are skipped and reported to `on_example`.

    Raises DataError where a label is not one of the classifier's, or nothing can be read.
    """
    _check_labels(labelled, classifier.classes)
    scored = _Answered(labelled)
    answers = map_readable(scored.read(), lambda raws: classifier.scored_each(raws, batch_size=BATCH_SIZE))
    strangeness: list[float] = []
    for row, answer in answers:
        if isinstance(answer, InputError):
            on_example(row, answer)
        else:
            on_example(row, None)
            scored.add(row, answer.probabilities)
            strangeness += [] if answer.strangeness is None else [answer.strangeness]
    return Evaluation.from_classifier(
        classifier,
        scored.ids,
        scored.targets(classifier.classes),
        np.stack(scored.probabilities),
        np.array(strangeness) if classifier.detects else None,
        scored.input_properties,
    )


def evaluate_endpoint(endpoint: Endpoint, labelled: LabelledExamples, *, on_example: OnExample) -> Evaluation:
    """Return the evaluation of a served classifier, whose classes are those of its first answer.

    Raises DataError as `evaluate_classifier` does, and ModelError where the server fails.
    """
    scored = _Answered(labelled)
    first: Scores | None = None
    known: list[bool | None] = []
    shares: list[float | None] = []
    for row, answer in map_readable(scored.read(), endpoint.answers):
        if isinstance(answer, InputError):
            on_example(row, answer)
            continue
        on_example(row, None)
        if first is None:
            first = answer
            _check_labels(labelled, tuple(sorted(first.names)))
        scored.add(row, _vector(answer, first, endpoint))
        known.append(answer.known)
        shares.append(answer.out_of_distribution)
    names = first.names if first else {}
    classes = tuple(sorted(names))
    return Evaluation(
        classes=classes,
        names=names,
        ids=scored.ids,
        targets=scored.targets(classes),
        probabilities=np.stack(scored.probabilities),
        calibration=None,
        known=None if None in known else np.array(known, dtype=bool),
        out_of_distribution=None if None in shares else np.array(shares, dtype=np.float64),
        properties=scored.input_properties,
    )


def _vector(answer: Scores, first: Scores, endpoint: Endpoint) -> Probabilities:
    if answer.probabilities.keys() != first.probabilities.keys():
        raise ModelError(
            f"{endpoint.display_url}: expected the classes of the first answer, found others; "
            "was the model replaced during the evaluation? Re-run the command"
        )
    return np.array([answer.probabilities[label] for label in sorted(first.names)])


def _check_labels(labelled: LabelledExamples, classes: tuple[str, ...]) -> None:
    unknown = [label for label in labelled.labels if label not in classes]
    if unknown:
        raise DataError(
            f"{len(unknown)} of the {len(labelled.labels)} labels of the data are not classes of this classifier "
            f"({preview_list(unknown)}); it knows {preview_list(list(classes))}"
        )
