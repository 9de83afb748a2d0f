"""The page: what is told of an evaluation, put into its template."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flowerml.core import files
from flowerml.core.urls import without_secrets
from flowerml.evaluation.evaluation import Evaluation
from flowerml.evaluation.intervals import CONFIDENCE, Interval
from flowerml.evaluation.report import charts, sections, wording
from flowerml.evaluation.report.gallery import Explains, Raws, shown
from flowerml.evaluation.report.subject import Subject
from flowerml.tasks.registry import TASKS

HERE = Path(__file__).parent
PAIRS = 12
MATRIX = 12  # classes; more make no readable matrix
SHARES = (0.5, 0.8, 0.9, 0.95, 1.0)


def write(
    path: Path,
    evaluation: Evaluation,
    numbers: Mapping[str, Interval],
    subject: Subject,
    *,
    raws: Raws,
    explain: Explains | None,
    gallery: int,
    resamples: int,
) -> None:
    """Write the report of an evaluation as one HTML file, atomically; the same evaluation gives the same bytes.

    `numbers` are its headline with limits from so many `resamples`. Of the `gallery` worst mistakes and of the most
    confused pairs the raw inputs are read again; `explain` None leaves out why.
    """
    pairs = evaluation.pairs(most=PAIRS)
    mistakes = evaluation.mistakes(most=gallery)
    wanted = [*mistakes, *(row for pair in pairs for row in sections.examples_of(pair, evaluation))]
    given = {evaluation.ids[row]: evaluation.classes[evaluation.predicted[row]] for row in mistakes}
    ids = {evaluation.ids[row] for row in wanted}
    examples = shown(ids, given, raws=raws, task=TASKS[subject.kind], explain=explain) if ids else {}
    classes = [evaluation.names[label] for label in evaluation.classes]
    context = {
        **{
            "subject": subject,
            "title": without_secrets(subject.title),
            "evaluation": evaluation,
            "classes": classes,
            "confidence": CONFIDENCE,
        },
        **{"count": len(evaluation.targets), "right": int(evaluation.hits.sum()), "resamples": resamples},
        "headline": sections.headline(numbers, classes, evaluation.calibration),
        "accuracy": numbers["accuracy"],
        "calibration": _calibration(evaluation),
        "coverage": _coverage(evaluation),
        "slices": sections.slices(evaluation),
        "pairs": [sections.pair(one, evaluation, examples) for one in pairs],
        "pairs_in_all": len(evaluation.pairs(most=len(evaluation.targets))),
        "matrix": sections.matrix(evaluation) if len(classes) <= MATRIX else None,
        "per_class": sections.per_class(evaluation),
        "gallery": [sections.answer(int(row), evaluation, examples) for row in mistakes],
        "explained": explain is not None,
        "facts": {name: without_secrets(value) for name, value in subject.facts.items()},
        "parameters": {name: _parameter(value) for name, value in sorted(subject.parameters.items())},
    }
    page = _environment().get_template("page.html").render(context)
    with files.replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _calibration(evaluation: Evaluation) -> dict[str, Any]:
    axes = charts.Axes()
    table = evaluation.reliability()
    series = {name: table[table["probabilities"] == name] for name in table["probabilities"].unique()}
    return {
        "axes": axes,
        "lines": {name: axes.line(rows["confidence"], rows["accuracy"]) for name, rows in series.items()},
        "points": {name: charts.reliability(rows, axes) for name, rows in series.items()},
        "rows": [dict(row) for row in table.to_dict("records")],
    }


def _coverage(evaluation: Evaluation) -> dict[str, Any]:
    table = evaluation.coverage()
    axes = charts.Axes(charts.floor_of(list(table["accuracy"][table["share"] >= 0.05])))
    visible = table[table["accuracy"] >= axes.floor]
    known = np.ones(len(evaluation.ids), bool) if evaluation.known is None else evaluation.known
    at = None
    if known.any() and not known.all():
        at = {"share": float(known.mean()), "accuracy": float(evaluation.hits[known].mean())}
    rows = [table[table["share"] >= share - 1e-9].iloc[0].to_dict() for share in SHARES]
    return {
        "axes": axes,
        "line": axes.line(visible["share"], visible["accuracy"]),
        "at": at,
        "rows": rows,
        "refused": {"count": int((~known).sum()), "wrong": int((~known & ~evaluation.hits).sum())},
    }


def _parameter(value: Any) -> str:
    return without_secrets(value) if isinstance(value, str) else json.dumps(value)  # as in params.yaml


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,  # names and texts are anyone's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = wording.percent
    environment.globals["chart"] = charts
    return environment
