"""Stage `evaluate`: the saved classifier on raw test examples -> metrics, tables and report in reports/<pipeline>."""

import statistics
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.repeats import others
from flowerml.config.pipeline import Pipeline
from flowerml.core.errors import ModelError
from flowerml.data.examples import Examples, Raw
from flowerml.evaluation import evaluation
from flowerml.evaluation.intervals import OF_REPEATS, Interval
from flowerml.evaluation.report import page
from flowerml.evaluation.report.subject import Subject
from flowerml.pipeline import scored

PAGE = "report.html"
PROPERTIES = "flowerml.tasks.properties:input_properties"


@dataclass(frozen=True)
class Scores:
    """The metrics on the test split: of the classifier, with intervals, and of its repeats, if there are any."""

    intervals: dict[str, Interval]
    repeats: dict[str, float]

    def estimates(self) -> dict[str, float]:
        """Return the contents of metrics.json."""
        return {**{name: interval.estimate for name, interval in self.intervals.items()}, **self.repeats}


def run(
    pipeline: Pipeline,
    *,
    classifier: Classifier | None = None,
    repeats: Path | None = None,
    folder: Path | None = None,
) -> Scores:
    """Evaluate a pipeline's classifier on its test split, write the reports, and return the metrics.

    The classifier is the one saved by the stage `train` unless one is given; so are the folder of its repeats, and the
    folder of the reports.
    """
    section, folder = pipeline.evaluate, folder or pipeline.paths.reports
    examples = Examples(pipeline.paths.examples)
    if classifier is None:
        classifier = Classifier.load(pipeline.paths.classifier, accelerated=True)
        repeats = pipeline.paths.repeats
    if classifier.on_gpu:
        print(f"{pipeline.name}: evaluated on the GPU, by ONNX Runtime with CUDA", file=sys.stderr)
    answers = scored.scores(
        classifier,
        examples,
        "test",
        batch_size=section.batch_size,
        describe=PROPERTIES,
        accelerated=classifier.on_gpu,
    )
    result = evaluation.of_answers(
        classifier,
        [key.id for key in answers.keys],
        [key.label for key in answers.keys],
        answers.probabilities,
        answers.strangeness,
        answers.properties,
    )
    of_repeats = _repeats(result, repeats, examples, batch_size=section.batch_size)
    metrics = result.write(folder, top_k=section.top_k, resamples=section.resamples, repeats=of_repeats)

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
    return Scores(metrics, of_repeats)


def summary(scores: Scores) -> str:
    """Return the accuracy with its interval, the other metrics on a line each, and mean and spread of repeats.

    >>> print(summary(Scores({"accuracy": Interval(0.9, 0.85, 0.94), "loss": Interval(0.3, 0.2, 0.4)}, {})))
    test: accuracy 0.9000, 95 % interval 0.8500 to 0.9400
      loss 0.3000 (0.2000 to 0.4000)
    """
    accuracy, others = scores.intervals["accuracy"], {**scores.intervals}
    del others["accuracy"]
    return "\n".join(
        [
            f"test: accuracy {accuracy.estimate:.4f}, 95 % interval {accuracy.low:.4f} to {accuracy.high:.4f}",
            *(f"  {name} {value.estimate:.4f} ({value.low:.4f} to {value.high:.4f})" for name, value in others.items()),
            *([of_repeats(scores.repeats)] if scores.repeats else []),
        ]
    )


def of_repeats(metrics: Mapping[str, float]) -> str:
    """Return the accuracy of repeats in a few words."""
    mean, spread = metrics["accuracy_mean"], metrics["accuracy_std"]
    return (
        f"{metrics['repeats']:.0f} trainings with different seeds: accuracy {mean:.4f}, standard deviation {spread:.4f}"
    )


def _repeats(
    result: evaluation.Evaluation, folder: Path | None, examples: Examples, *, batch_size: int
) -> dict[str, float]:
    """Return mean and standard deviation of the accuracy of a classifier and its repeats; nothing without repeats."""
    accuracies = [float(result.hits.mean())]
    for path in others(folder) if folder is not None else ():
        repeat = Classifier.load(path, accelerated=True)
        if repeat.classes != result.classes:
            raise ModelError(f"{path}: expected a repeat for the same classes, found one for others; train again")
        answers = scored.scores(repeat, examples, "test", batch_size=batch_size, accelerated=repeat.on_gpu)
        accuracies.append(float((answers.probabilities.argmax(axis=1) == result.targets).mean()))
    if len(accuracies) < 2:
        return {}
    values = (statistics.mean(accuracies), statistics.stdev(accuracies), len(accuracies))
    return dict(zip(OF_REPEATS, values, strict=True))
