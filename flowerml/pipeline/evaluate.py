"""A pipeline's classifier on its test split: the numbers, the tables and the page."""

from collections.abc import Collection, Iterator

from flowerml.classifier.classifier import Classifier
from flowerml.data.examples import Examples, Raw
from flowerml.evaluation import evaluation
from flowerml.evaluation.intervals import Interval
from flowerml.evaluation.report import page, subject
from flowerml.tasks.registry import Pipeline

PAGE = "report.html"


def of_pipeline(pipeline: Pipeline, classifier: Classifier, examples: Examples) -> dict[str, Interval]:
    """Score a classifier on the test split, write all that is found to the pipeline's reports, give the numbers."""
    section, folder = pipeline.evaluate, pipeline.paths.reports
    found = evaluation.evaluate(classifier, examples.of("test"), batch_size=section.batch_size)
    numbers = found.write(folder, top_k=section.top_k, resamples=section.resamples)

    def raws(ids: Collection[str]) -> Iterator[tuple[str, Raw]]:
        return ((one.id, one.raw) for one in examples.of("test", where=lambda key: key.id in ids))

    page.write(
        *(folder / PAGE, found, numbers),
        subject.of_classifier(
            classifier,
            title=pipeline.name,
            model=f"the pipeline {pipeline.name}",
            data=f"the test split of {pipeline.data.source}",
            digest=examples.digest("test"),
        ),
        raws=raws,
        explain=lambda raw, label: classifier.explain(raw, label=label),
        gallery=section.gallery,
        resamples=section.resamples,
    )
    return numbers
