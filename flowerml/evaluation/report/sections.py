"""The contents of the report's sections: numbers and rows as plain data, ready for the template."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from flowerml.classifier.calibration import Calibration
from flowerml.evaluation.confusions import ConfusedPair, Indices
from flowerml.evaluation.evaluation import Evaluation
from flowerml.evaluation.intervals import Interval, wilson_interval
from flowerml.evaluation.report import wording
from flowerml.evaluation.report.gallery import GalleryItem

CONFUSED_WITH = 3  # classes that are named for each class
MISTAKES_OF_PAIR = 2

Row = dict[str, Any]


def headline(metrics: Mapping[str, Interval], classes: list[str], calibration: Calibration | None) -> list[Row]:
    """Return each metric with its limits and what it means."""
    return [
        {
            "title": wording.title(name),
            "value": wording.number(name, interval.estimate),
            "limits": wording.limits(name, interval),
            "meaning": wording.meaning(name, classes=classes, calibration=calibration),
        }
        for name, interval in metrics.items()
    ]


def slices(evaluation: Evaluation) -> list[Row]:
    """Return the rows of `Evaluation.slices` with the positions of the interval's bar, in per cent of its cell."""
    table = evaluation.slices()
    start, end = (float(table["low"].min()), float(table["high"].max())) if len(table) else (0.0, 1.0)
    overall = float(evaluation.hits.mean())

    def position(value: float) -> float:
        return round(100 * (value - start) / max(end - start, 1e-9), 2)

    def bar(low: float, middle: float, high: float) -> Row:
        return {
            "left": position(low),
            "width": round(position(high) - position(low), 2),
            "middle": position(middle),
            "overall": position(overall),
        }

    rows = [dict(zip(table.columns, values, strict=True)) for values in table.itertuples(index=False)]
    return [{**row, **bar(row["low"], row["accuracy"], row["high"])} for row in rows]


def per_class(evaluation: Evaluation) -> list[Row]:
    """Return a row for each class with examples, lowest F1 first, and the classes it is confused with."""
    predicted = evaluation.predicted
    rows = evaluation.per_class().query("support > 0").sort_values("f1", kind="stable")

    def class_row(index: int, row: Row) -> Row:
        wrong = predicted[(evaluation.targets == index) & (predicted != index)]
        support = int(row["support"])
        common = Counter(wrong.tolist()).most_common()
        return {
            **row,
            "correct": support - len(wrong),
            "limits": wilson_interval(support - len(wrong), support),
            "confused_with": [
                (evaluation.names[evaluation.classes[answer]], count) for answer, count in common[:CONFUSED_WITH]
            ],
            "more": len(common[CONFUSED_WITH:]),
        }

    return [
        class_row(index, dict(zip(rows.columns, values, strict=True)))
        for index, values in zip(rows.index.tolist(), rows.itertuples(index=False), strict=True)
    ]


def matrix(evaluation: Evaluation) -> list[Row]:
    """Return the confusion matrix: for each class how often each was predicted, as a count and as a share."""
    rows = []
    for actual, label in enumerate(evaluation.classes):
        predicted = evaluation.predicted[evaluation.targets == actual]
        counts = np.bincount(predicted, minlength=len(evaluation.classes)).tolist()
        cells = [{"count": count, "share": count / max(len(predicted), 1)} for count in counts]
        rows.append({"name": evaluation.names[label], "cells": cells, "support": len(predicted)})
    return rows


def answer(row: int, evaluation: Evaluation, items: Mapping[str, GalleryItem]) -> Row:
    """Return one example with its actual and its predicted class; `item` is None where it could not be read again."""
    target, predicted = int(evaluation.targets[row]), int(evaluation.predicted[row])
    return {
        "id": evaluation.ids[row],
        "item": items.get(evaluation.ids[row]),
        "actual": evaluation.names[evaluation.classes[target]],
        "predicted": evaluation.names[evaluation.classes[predicted]],
        "probability_of_actual": float(evaluation.probabilities[row, target]),
        "probability": float(evaluation.probabilities[row, predicted]),
        "abstained": evaluation.known is not None and not evaluation.known[row],
        "strange": evaluation.strange is not None and bool(evaluation.strange[row]),
    }


def pair(confused: ConfusedPair, evaluation: Evaluation, items: Mapping[str, GalleryItem]) -> Row:
    """Return two classes, how often each is classified as the other, and examples: correct ones and mistakes."""
    support = np.bincount(evaluation.targets, minlength=len(evaluation.classes))
    first, second = (evaluation.names[evaluation.classes[index]] for index in (confused.first, confused.second))
    directions = [
        {
            "actual": first,
            "predicted": second,
            "count": len(confused.first_as_second),
            "support": int(support[confused.first]),
        },
        {
            "actual": second,
            "predicted": first,
            "count": len(confused.second_as_first),
            "support": int(support[confused.second]),
        },
    ]
    return {
        "first": first,
        "second": second,
        "directions": directions,
        "correct": [answer(row, evaluation, items) for row in _most_confident_hits(confused, evaluation)],
        "wrong": [answer(row, evaluation, items) for row in _most_confident_mistakes(confused, evaluation)],
    }


def examples_of(confused: ConfusedPair, evaluation: Evaluation) -> Iterator[int]:
    """Yield the rows of the examples that are shown of a pair."""
    yield from _most_confident_hits(confused, evaluation)
    yield from _most_confident_mistakes(confused, evaluation)


def _most_confident_hits(confused: ConfusedPair, evaluation: Evaluation) -> Iterator[int]:
    """Yield for each class the correctly classified example with the highest probability."""
    for index in (confused.first, confused.second):
        rows = np.flatnonzero((evaluation.targets == index) & evaluation.hits)
        if len(rows):
            yield int(rows[np.argmax(evaluation.probabilities[rows, index])])


def _most_confident_mistakes(confused: ConfusedPair, evaluation: Evaluation) -> list[int]:
    """Return the mistakes with the highest probabilities, in both directions where there are any."""

    def ranked(rows: Indices) -> list[int]:
        return rows[np.argsort(-evaluation.confidence[rows], kind="stable")].tolist()

    directions = [ranked(confused.first_as_second), ranked(confused.second_as_first)]
    alternating = [row for rank in range(MISTAKES_OF_PAIR) for rows in directions for row in rows[rank : rank + 1]]
    return alternating[:MISTAKES_OF_PAIR]
