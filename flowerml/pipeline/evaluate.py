"""Stage `evaluate`: the saved classifier on raw test examples -> metrics, tables and report in reports/<pipeline>."""

from collections.abc import Collection, Iterator, Mapping

from flowerml.classifier.classifier import Classifier
from flowerml.config.pipeline import Pipeline
from flowerml.data.examples import Examples, Raw
from flowerml.evaluation import evaluation
from flowerml.evaluation.intervals import Interval
from flowerml.evaluation.report import page
from flowerml.evaluation.report.subject import Subject

PAGE = "report.html"


def run(pipeline: Pipeline, *, classifier: Classifier | None = None) -> dict[str, Interval]:
    """Evaluate a pipeline's classifier on its test split, write the reports, and return the metrics.

    The classifier is the one saved by the stage `train` unless one is given.
    """
    section, folder = pipeline.evaluate, pipeline.paths.reports
    examples = Examples(pipeline.paths.examples)
    if classifier is None:
        classifier = Classifier.load(pipeline.paths.classifier)
    result = evaluation.evaluate(classifier, examples.of("test"), batch_size=section.batch_size)
    metrics = result.write(folder, top_k=section.top_k, resamples=section.resamples)

    def raws(ids: Collection[str]) -> Iterator[tuple[str, Raw]]:
        chosen = examples.of("test", where=lambda key: key.id in ids)
        return ((example.id, example.raw) for example in chosen)

    subject = Subject.from_classifier(
        classifier,
        title=pipeline.name,
        model=f"the pipeline {pipeline.name}",
        data=f"the test split of {pipeline.data.source}",
        digest=examples.digest("test"),
    )
    page.write(
        folder / PAGE,
        result,
        metrics,
        subject,
        raws=raws,
        explain=lambda raw, label: classifier.explain(raw, label=label),
        gallery_size=section.gallery,
        resamples=section.resamples,
    )
    return metrics


def summary(metrics: Mapping[str, Interval]) -> str:
    """Return one line with the metrics and their intervals."""
    return ", ".join(
        f"{name} {interval.estimate:.4f} ({interval.low:.4f} to {interval.high:.4f})"
        for name, interval in metrics.items()
    )
