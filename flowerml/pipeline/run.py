"""The stages from extract to evaluate, one after the other, for data without an entry in params.yaml."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.warm_start import Finished
from flowerml.core import files
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Examples
from flowerml.evaluation import report
from flowerml.pipeline import download, encode, train
from flowerml.pipeline import extract as extraction
from flowerml.search.study import Trial
from flowerml.tasks.registry import Encoder, Pipeline
from flowerml.tracking import lineage, runs


@dataclass(frozen=True)
class Made:
    """A saved classifier, the trial that it comes from, and its metrics on the test split."""

    classifier: Classifier
    trial: Trial
    metrics: dict[str, float]


def extract(pipeline: Pipeline) -> str:
    """Write the example table of a fetched source; gives a summary in a few lines. Raises DataError."""
    report = extraction.extract(pipeline)
    files.write_json(pipeline.paths.checks, report)
    return extraction.summary(report)


def make(pipeline: Pipeline, folder: Path, *, shows: train.Shows, further: Finished | None = None) -> Made:
    """Encode the example table, search, save the winner to `folder` and score it; all is recorded in MLflow.

    With `further` the training goes on from there; raises ModelError where that cannot be.
    """
    paths = pipeline.paths
    table = Examples(paths.examples)
    if further is not None:
        further.check(tuple(sorted({key.label for key in table.keys("train")})))
    encoded, encoder = _encoded(pipeline, table, further)
    digest = table.digest()
    weights = further.weights if further else None
    search, winner = train.train(
        *(pipeline, encoded, encoder), examples=table, data_digest=digest, weights=weights, shows=shows
    )
    names = {**(further.names if further else {}), **download.category_names(paths.category_names)}
    classifier = train.save(
        *(pipeline, winner, encoder),
        classes=encoded.classes,
        names=names,
        data_digest=digest,
        folder=folder,
        examples=table,
    )
    train.write_tables(search, paths.reports)
    train.forget(pipeline)
    return Made(classifier, winner.trial, _scored(pipeline, classifier, table, digest))


def _encoded(pipeline: Pipeline, table: Examples, further: Finished | None) -> tuple[Encoded, Encoder]:
    if further is not None:
        encoder = further.encoder
    else:
        encoder = pipeline.task.Encoder.fit(table.of("train"), pipeline.encode, pipeline.data.limits)
    encode.encode(pipeline.paths.encoded, table, encoder, pipeline.encode)
    for one in encode.check(pipeline, table):
        if one["severity"] != "note":
            tqdm.write(f"{one['severity']}: {one['name']}: {one['text']}", file=sys.stderr)
    return Encoded.read(pipeline.paths.encoded), encoder


def _scored(pipeline: Pipeline, classifier: Classifier, table: Examples, digest: str) -> dict[str, Any]:
    """The metrics on the test split, which are a run of their own, with the tables and the page."""
    numbers = {name: one.estimate for name, one in report.of_pipeline(pipeline, classifier, table).items()}
    tags = lineage.tags(pipeline, digest, stage="evaluate", threads=classifier.description["trained"]["threads"])
    with runs.run(pipeline.name, "evaluate", tags) as run:
        run.params(classifier.description["parameters"])
        run.metrics(numbers)
        run.artifact(pipeline.paths.reports, "reports")
    return numbers
