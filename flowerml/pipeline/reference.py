"""The reference of a trained classifier, from validation examples: what served inputs will be compared with."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import tee

import numpy as np

from flowerml.classifier.classifier import Classifier
from flowerml.core.errors import InputError
from flowerml.data.examples import Example, Examples
from flowerml.monitoring.record import Record
from flowerml.monitoring.reference import ROWS, Accuracy, Reference
from flowerml.tasks.properties import input_properties

SPLIT = "valid"
FEW = 16  # examples by which the features of two classifiers are compared
TOLERANCE = 0.01  # between features, whose deviation is about 1
MODEL = {"name": "", "version": None}  # not told by a reference


def fit_reference(classifier: Classifier, examples: Examples) -> Reference:
    """Return the watched numbers of at most ROWS validation examples, evenly spaced, with the accuracy on these."""
    chosen, others = tee(_evenly_spaced(examples, ROWS))
    answers = classifier.predict_each((example.raw for example in others), top_k=1)
    records, correct = [], 0
    for example, answer in zip(chosen, answers, strict=True):
        properties = input_properties(classifier.task, example.raw)
        records.append(Record.of(example.raw, answer, time=0.0, request="", model=MODEL, properties=properties))
        correct += not isinstance(answer, InputError) and answer.top[0].label == example.label
    accuracy = Accuracy(SPLIT, correct, len(records)) if records else None
    return Reference.of(records, features=classifier.features, accuracy=accuracy)


def of_refitted(before: Reference, trained: Classifier, refitted: Classifier, examples: Examples) -> Reference:
    """Return the reference of a classifier that was refitted on the validation examples, too.

    It is that of the classifier `trained` without these. A backbone that was fine-tuned on them gives other features:
    those are left out.
    """
    if not before.features or _agree(trained, refitted, examples):
        return before
    columns = {name: column for name, column in before.columns.items() if name not in before.features}
    return replace(before, columns=columns, features=())


def _agree(first: Classifier, second: Classifier, examples: Examples) -> bool:
    raws = [example.raw for example in _evenly_spaced(examples, FEW)]
    before, after = (
        np.array([answer.features for answer in classifier.predict(raws, top_k=1)]) for classifier in (first, second)
    )
    return before.shape == after.shape and bool(np.allclose(before, after, rtol=0, atol=TOLERANCE))


def _evenly_spaced(examples: Examples, most: int) -> Iterator[Example]:
    keys = list(examples.keys(SPLIT))
    count = min(len(keys), most)
    wanted = {keys[number * len(keys) // count].id for number in range(count)}
    return examples.of(SPLIT, where=lambda key: key.id in wanted)
