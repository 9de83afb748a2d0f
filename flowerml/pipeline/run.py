"""Run the stages from extract to evaluate on data without an entry in params.yaml."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from flowerml.classifier import reports
from flowerml.classifier.classifier import Classifier
from flowerml.classifier.repeats import beside
from flowerml.classifier.warm_start import WarmStart
from flowerml.config.pipeline import Pipeline
from flowerml.core.display import visible
from flowerml.data.examples import Examples
from flowerml.pipeline import backbones, encode, evaluate, extract, presets, repeats, train
from flowerml.pipeline.origin import origin_of
from flowerml.pipeline.presets import Preset
from flowerml.search.progress import ShowProgress
from flowerml.search.trial import Trial
from flowerml.tracking import lineage, runs

CURVES = "curves.png"


@dataclass(frozen=True)
class RunResult:
    """A saved classifier, its trial, the scores of its search, its metrics on the test split, and their folder."""

    classifier: Classifier
    trial: Trial
    scores: dict[str, float]
    metrics: dict[str, float]
    reports: Path


def run(
    pipeline: Pipeline,
    folder: Path,
    *,
    show_progress: ShowProgress,
    on_summary: Callable[[str], None],
    warm_start: WarmStart | None = None,
    preset: Preset | None = None,
) -> RunResult:
    """Extract a fetched source, encode, search, save the winner to `folder` and evaluate it; MLflow records everything.

    `on_summary` is called with a summary of the data, and with the parameters of a `preset`, which depend on them. With
    `warm_start` training starts from an earlier classifier; raises ModelError if it does not fit, and DataError for
    data that cannot be learned from.
    """
    repeats.check(beside(folder))  # raises an error now rather than after encoding
    reports.check(reports.beside(folder))
    on_summary(extract.summary(extract.run(pipeline)))
    if preset is not None:
        pipeline, choices = presets.apply(pipeline, preset)
        on_summary(presets.described(preset, choices))
    return train_extracted(pipeline, folder, show_progress=show_progress, warm_start=warm_start)


def train_extracted(
    pipeline: Pipeline,
    folder: Path,
    *,
    show_progress: ShowProgress,
    warm_start: WarmStart | None = None,
) -> RunResult:
    """Run the stages after `extract`: encode, search, save the winner to `folder` and evaluate it."""
    if warm_start is not None:
        warm_start = replace(warm_start, encoder=warm_start.encoder.adapted(pipeline.encode))
        keys = Examples(pipeline.paths.examples).keys("train")
        warm_start.check(tuple(sorted({key.label for key in keys})))
    backbones.offer(pipeline)
    report = encode.run(pipeline, encoder=warm_start.encoder if warm_start else None)
    for finding in report.findings:
        if finding["severity"] != "note":
            tqdm.write(visible(f"{finding['severity']}: {finding['name']}: {finding['text']}"), file=sys.stderr)
    trained = train.run(pipeline, folder=folder, warm_start=warm_start, show_progress=show_progress)
    _draw_curves(pipeline.paths.reports, trained.trial)
    metrics = _evaluate(pipeline, trained.classifier, trained.repeats)
    reports.replace(reports.beside(folder), pipeline.paths.reports)
    return RunResult(trained.classifier, trained.trial, trained.scores, metrics, reports.beside(folder))


def _draw_curves(folder: Path, trial: Trial) -> None:
    import pandas as pd

    from flowerml.evaluation import learning_curves

    assert trial.best is not None, "the winning trial has finished an epoch"
    learning_curves.draw(pd.read_csv(folder / "curves.csv"), folder / CURVES, best=trial.best.number)


def _evaluate(pipeline: Pipeline, classifier: Classifier, repeats: Path | None) -> dict[str, float]:
    """Return the metrics on the test split, and log them with tables and report in an MLflow run of their own."""
    metrics = evaluate.run(pipeline, classifier=classifier, repeats=repeats).estimates()
    digest = Examples(pipeline.paths.examples).digest()
    threads = classifier.description["trained"]["threads"]
    tags = lineage.lineage_tags(origin_of(pipeline), digest, stage="evaluate", threads=threads)
    with runs.run(pipeline.name, "evaluate", tags) as run:
        run.params(classifier.description["parameters"])
        run.metrics(metrics)
        run.artifact(pipeline.paths.reports, "reports")
    return metrics
