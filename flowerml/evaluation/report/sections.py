"""What the page's sections tell: numbers and rows as plain data, ready to be laid out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from flowerml.classifier.calibration import Calibration
from flowerml.evaluation import intervals
from flowerml.evaluation.confusions import Indices, Pair
from flowerml.evaluation.evaluation import Evaluation
from flowerml.evaluation.intervals import Interval
from flowerml.evaluation.report import wording
from flowerml.evaluation.report.gallery import Shown

TAKEN_FOR = 3  # classes that are named of those a class is taken for
MISTAKES_OF_PAIR = 2

Row = dict[str, Any]


def headline(numbers: Mapping[str, Interval], classes: list[str], calibration: Calibration | None) -> list[Row]:
    """Each number with its limits and what it means."""
    return [
        {
            "title": wording.title(name),
            "value": wording.number(name, one.estimate),
            "limits": wording.limits(name, one),
            "meaning": wording.meaning(name, classes=classes, calibration=calibration),
        }
        for name, one in numbers.items()
    ]


def slices(evaluation: Evaluation) -> list[Row]:
    """The rows of `Evaluation.slices`, with where the limits lie on a bar in per cent."""
    table = evaluation.slices()
    start, end = (float(table["low"].min()), float(table["high"].max())) if len(table) else (0.0, 1.0)
    overall = float(evaluation.hits.mean())

    def at(value: float) -> float:
        return round(100 * (value - start) / max(end - start, 1e-9), 2)

    def bar(low: float, middle: float, high: float) -> Row:
        return {"left": at(low), "width": round(at(high) - at(low), 2), "middle": at(middle), "overall": at(overall)}

    rows = [dict(zip(table.columns, values, strict=True)) for values in table.itertuples(index=False)]
    return [{**row, **bar(row["low"], row["accuracy"], row["high"])} for row in rows]


def per_class(evaluation: Evaluation) -> list[Row]:
    """Every class with examples, lowest F1 first: its numbers, and what it is taken for when it is not recognised."""
    predicted = evaluation.predicted
    rows = evaluation.per_class().query("support > 0").sort_values("f1", kind="stable")

    def of_class(index: int, row: Row) -> Row:
        wrong = predicted[(evaluation.targets == index) & (predicted != index)]
        support = int(row["support"])
        common = Counter(wrong.tolist()).most_common()
        named = [(evaluation.names[evaluation.classes[one]], times) for one, times in common[:TAKEN_FOR]]
        limits = intervals.share(support - len(wrong), support)
        return {
            **row,
            "right": support - len(wrong),
            "limits": limits,
            "taken_for": named,
            "more": len(common[TAKEN_FOR:]),
        }

    return [
        of_class(index, dict(zip(rows.columns, values, strict=True)))
        for index, values in zip(rows.index.tolist(), rows.itertuples(index=False), strict=True)
    ]


def matrix(evaluation: Evaluation) -> list[Row]:
    """For each class how often its examples were taken for each class, and as a share of them."""
    rows = []
    for actual, label in enumerate(evaluation.classes):
        of = evaluation.predicted[evaluation.targets == actual]
        counts = np.bincount(of, minlength=len(evaluation.classes)).tolist()
        cells = [{"count": count, "share": count / max(len(of), 1)} for count in counts]
        rows.append({"name": evaluation.names[label], "cells": cells, "support": len(of)})
    return rows


def answer(row: int, evaluation: Evaluation, examples: Mapping[str, Shown]) -> Row:
    """One example with its right and its given answer; `shown` is None where it could not be read again."""
    target, given = int(evaluation.targets[row]), int(evaluation.predicted[row])
    return {
        "id": evaluation.ids[row],
        "shown": examples.get(evaluation.ids[row]),
        "actual": evaluation.names[evaluation.classes[target]],
        "given": evaluation.names[evaluation.classes[given]],
        "of_actual": float(evaluation.probabilities[row, target]),
        "of_given": float(evaluation.probabilities[row, given]),
        "held_back": evaluation.known is not None and not evaluation.known[row],
    }


def pair(one: Pair, evaluation: Evaluation, examples: Mapping[str, Shown]) -> Row:
    """Two classes, how often each is taken for the other, an example of each told right, and of the mistakes."""
    support = np.bincount(evaluation.targets, minlength=len(evaluation.classes))
    first, second = (evaluation.names[evaluation.classes[index]] for index in (one.first, one.second))
    ways = [
        {"of": of, "for": other, "times": len(rows), "support": int(support[index])}
        for of, other, rows, index in (
            (first, second, one.first_as_second, one.first),
            (second, first, one.second_as_first, one.second),
        )
    ]
    return {
        "first": first,
        "second": second,
        "ways": ways,
        "right": [answer(row, evaluation, examples) for row in _recognised(one, evaluation)],
        "wrong": [answer(row, evaluation, examples) for row in _mistaken(one, evaluation)],
    }


def examples_of(one: Pair, evaluation: Evaluation) -> Iterator[int]:
    """The rows that are shown of a pair."""
    yield from _recognised(one, evaluation)
    yield from _mistaken(one, evaluation)


def _recognised(one: Pair, evaluation: Evaluation) -> Iterator[int]:
    """Of each class the example that it was told of most surely."""
    for index in (one.first, one.second):
        rows = np.flatnonzero((evaluation.targets == index) & evaluation.hits)
        if len(rows):
            yield int(rows[np.argmax(evaluation.probabilities[rows, index])])


def _mistaken(one: Pair, evaluation: Evaluation) -> list[int]:
    """The surest of the mistakes, both ways where there are."""

    def surest(rows: Indices) -> list[int]:
        return rows[np.argsort(-evaluation.confidence[rows], kind="stable")].tolist()

    ways = [surest(one.first_as_second), surest(one.second_as_first)]
    both = [row for turn in range(MISTAKES_OF_PAIR) for way in ways for row in way[turn : turn + 1]]
    return both[:MISTAKES_OF_PAIR]
