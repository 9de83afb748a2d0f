"""Stage `export`: register the classifier with its report as a version, and let the gate decide on the alias."""

import os
from typing import TYPE_CHECKING

from flowerml.classifier import saved
from flowerml.classifier.classifier import Classifier
from flowerml.config.pipeline import Pipeline
from flowerml.core import files
from flowerml.core.urls import without_secrets
from flowerml.data.examples import Examples
from flowerml.pipeline.origin import origin_of
from flowerml.registry import card, history, promotion, register
from flowerml.registry.gate import Candidate
from flowerml.registry.register import Logged, Registration, summary
from flowerml.tracking import lineage, runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowerml.config.params import Export
    from flowerml.registry.contest import Takes
    from flowerml.registry.gate import Decision

__all__ = ["run", "summary"]

DVC_EXPERIMENT = ("DVC_EXP_BASELINE_REV", "DVC_EXP_NAME")  # set by `dvc exp run`, and not by `dvc repro`


def run(pipeline: Pipeline) -> Registration:
    """Register a pipeline's classifier as a version, and give it the alias if it passes the gate."""
    paths, section = pipeline.paths, pipeline.export
    examples = Examples(paths.examples)
    classifier = Classifier.load(paths.classifier)
    saved.check_weights(paths.classifier, classifier.description)
    tags = _tags(pipeline, classifier, examples)
    with runs.run(pipeline.name, "export", tags) as run:
        _record(run, pipeline, classifier, examples)
        promotion.mark_interrupted(run.client, section.registered_model)
        example = next(examples.of("test")).raw
        logged = register.log_model(run, classifier, example=example, name=section.registered_model)
        candidate = _candidate(pipeline, logged, classifier, examples)
        _describe(pipeline, logged, candidate, classifier, examples, tags)
        decision = _submit(run, section, logged, candidate, examples)
        registration = Registration.of(logged, section.alias, decision)
        files.write_json(paths.registration, registration.to_json())
        run.artifact(paths.registration)
        run.tags(
            {
                "registered_version": logged.version,
                "promoted": registration.promoted,
                "reason": registration.reason,
            }
        )
    return registration


def _submit(run: runs.Run, section: "Export", logged: Logged, candidate: Candidate, examples: Examples) -> "Decision":
    """Have the gate decide on the alias, within what `export.promote` permits."""
    cautious = section.promote == "repro" and _is_experiment()
    takes: Takes = "none" if section.promote == "never" else "sample" if cautious else "any"
    return promotion.submit(
        run.client,
        logged.name,
        section.alias,
        candidate,
        section.gate,
        test=examples,
        takes=takes,
        how=history.EXPERIMENT if cautious else history.GATE,
    )


def _is_experiment() -> bool:
    """Return whether DVC runs this for `dvc exp run`, in the project or elsewhere (--temp, --queue)."""
    return any(os.environ.get(name) for name in DVC_EXPERIMENT)


def _tags(pipeline: Pipeline, classifier: Classifier, examples: Examples) -> dict[str, str]:
    """Return the lineage tags of the run and of the version."""
    threads = classifier.description["trained"]["threads"]
    tags = lineage.lineage_tags(origin_of(pipeline), examples.digest(), stage="export", threads=threads)
    return {**tags, "weights_digest": lineage.weights_digest(pipeline.paths.classifier)}


def _record(run: runs.Run, pipeline: Pipeline, classifier: Classifier, examples: Examples) -> None:
    """Log parameters, metrics, reports and lineage to the run."""
    reports = pipeline.paths.reports
    run.params(lineage.logged_parameters(classifier.description["parameters"], pipeline.parameters()))
    run.metrics(files.read_json(reports / "metrics.json"))
    run.artifact(reports, "reports")
    lineage.log_lineage(run, origin_of(pipeline), examples)


def _candidate(pipeline: Pipeline, logged: Logged, classifier: Classifier, examples: Examples) -> Candidate:
    """Return what the gate compares of the new version."""
    reports = pipeline.paths.reports
    metrics = files.read_json(reports / "metrics.json")
    return Candidate(
        version=logged.version,
        accuracy=metrics["accuracy"],
        test_digest=examples.digest("test"),
        classes=classifier.classes,
        answers=promotion.read_answers(reports / "predictions.csv"),
        ece=metrics.get("ece"),
        size=register.size(pipeline.paths.classifier),
        source=without_secrets(pipeline.data.source),
    )


def _describe(
    pipeline: Pipeline,
    logged: Logged,
    candidate: Candidate,
    classifier: Classifier,
    examples: Examples,
    tags: "Mapping[str, str]",
) -> None:
    """Tag the version, add its model card, and copy the registered model to the project."""
    register.describe(logged, candidate, tags)
    facts = card.facts(
        classifier,
        examples,
        source=pipeline.data.source,
        reports=pipeline.paths.reports,
        name=logged.name,
        version=logged.version,
        tags=tags,
    )
    register.add_card(logged, facts)
    register.copy(logged, pipeline.paths.mlflow_model)
