"""The page of a report: its template filled with what the sections hold."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flowerml.core import files
from flowerml.core.urls import without_secrets
from flowerml.evaluation import reliability
from flowerml.evaluation.evaluation import Evaluation
from flowerml.evaluation.intervals import CONFIDENCE, Interval
from flowerml.evaluation.report import charts, gallery, paths, sections, wording
from flowerml.evaluation.report.gallery import Explains, GalleryItem, Raws
from flowerml.evaluation.report.subject import Subject
from flowerml.tasks.registry import TASKS

HERE = Path(__file__).parent
MAX_PAIRS = 12
MAX_MATRIX = 12  # classes; a larger confusion matrix is not readable
COVERAGE_SHARES = (0.5, 0.8, 0.9, 0.95, 1.0)


def write(
    path: Path,
    evaluation: Evaluation,
    metrics: Mapping[str, Interval],
    subject: Subject,
    *,
    raws: Raws,
    explain: Explains | None,
    gallery_size: int,
    resamples: int,
) -> None:
    """Write the report of an evaluation as one HTML file, atomically; the same evaluation gives the same bytes.

    `metrics` are its intervals, from `resamples` bootstrap draws. The raw inputs of the `gallery_size` worst mistakes
    and of the most confused pairs are read again. Without `explain` the mistakes have no explanations.
    """
    pairs = evaluation.most_confused(most=MAX_PAIRS)
    mistakes = evaluation.mistakes(most=gallery_size)
    rows = [*mistakes, *(row for pair in pairs for row in sections.examples_of(pair, evaluation))]
    ids = {evaluation.ids[row] for row in rows}
    explained = {evaluation.ids[row]: evaluation.classes[evaluation.predicted[row]] for row in mistakes}
    items = gallery.load(ids, explained, raws=raws, task=TASKS[subject.kind], explain=explain) if ids else {}
    classes = [evaluation.names[label] for label in evaluation.classes]
    context = {
        "subject": subject,
        "title": paths.shortened(without_secrets(subject.title), ""),
        "folder": paths.common_folder([evaluation.ids[row] for row in mistakes]),
        "least": reliability.LEAST,
        "certain": any(interval.estimate in (0, 1) for interval in metrics.values()),
        "evaluation": evaluation,
        "classes": classes,
        "confidence": CONFIDENCE,
        "count": len(evaluation.targets),
        "correct": int(evaluation.hits.sum()),
        "resamples": resamples,
        "headline": sections.headline(metrics, classes, evaluation.calibration),
        "accuracy": metrics["accuracy"],
        "calibration": _calibration(evaluation),
        "coverage": _coverage(evaluation),
        "slices": sections.slices(evaluation),
        "pairs": [sections.pair(pair, evaluation, items) for pair in pairs],
        "pair_count": len(evaluation.most_confused(most=len(evaluation.targets))),
        "matrix": sections.matrix(evaluation) if len(classes) <= MAX_MATRIX else None,
        "per_class": sections.per_class(evaluation),
        "gallery": [sections.answer(int(row), evaluation, items) for row in mistakes],
        "texts": any(item.text is not None for item in items.values()),
        "explained_by": _explained_by(items.values()),
        "facts": {name: without_secrets(value) for name, value in subject.facts.items()},
        "parameters": {name: _parameter(value) for name, value in sorted(subject.parameters.items())},
    }
    html = environment().get_template("page.html").render(context)
    with files.replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


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
    axes = charts.Axes(charts.axis_floor(list(table["accuracy"][table["share"] >= 0.05])))
    visible = table[table["accuracy"] >= axes.floor]
    known = np.ones(len(evaluation.ids), bool) if evaluation.known is None else evaluation.known
    threshold = None
    if known.any() and not known.all():
        threshold = {"share": float(known.mean()), "accuracy": float(evaluation.hits[known].mean())}
    return {
        "axes": axes,
        "line": axes.line(visible["share"], visible["accuracy"]),
        "threshold": threshold,
        "rows": [table[table["share"] >= share - 1e-9].iloc[0].to_dict() for share in COVERAGE_SHARES],
        "abstained": {"count": int((~known).sum()), "wrong": int((~known & ~evaluation.hits).sum())},
        "strange": None if evaluation.strange is None else int(evaluation.strange.sum()),
    }


def _explained_by(items: Collection[GalleryItem]) -> str | None:
    if any(item.words for item in items):
        return "words"
    return "heat_map" if any(item.heat_map for item in items) else None


def _parameter(value: Any) -> str:
    return without_secrets(value) if isinstance(value, str) else json.dumps(value)  # as in params.yaml


def environment(*folders: Path) -> Environment:
    """Return the environment of the templates in these folders, which may include those of the report."""
    environment = Environment(
        loader=FileSystemLoader([*folders, HERE]),
        autoescape=True,  # names and texts may be anyone's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = wording.percent
    environment.filters["shortened"] = paths.shortened
    environment.globals["chart"] = charts
    return environment
