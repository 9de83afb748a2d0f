"""Register a classifier as a version, with all that is known of it, and have the gate decide on the alias.

The stage `export`, `flowerml register` and `flowerml train --register` all end here, so a version is the same whichever
way it came.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.classifier import saved
from flowerml.classifier.classifier import Classifier
from flowerml.core import files
from flowerml.core.urls import without_secrets
from flowerml.data.examples import Examples, Raw
from flowerml.pipeline.origin import origin_of
from flowerml.registry import card, history, promotion, register
from flowerml.registry.gate import Candidate, Decision
from flowerml.registry.register import Logged, Registration
from flowerml.tracking import lineage, runs

if TYPE_CHECKING:
    from flowerml.config.params import Export
    from flowerml.config.pipeline import Pipeline
    from flowerml.registry.contest import Takes

DVC_EXPERIMENT = ("DVC_EXP_BASELINE_REV", "DVC_EXP_NAME")  # set by `dvc exp run`, and not by `dvc repro`


@dataclass(frozen=True)
class Evaluated:
    """What is known of a classifier where it was trained: its pipeline, its examples, and the folder of its reports.

    `repeatable` is whether the pipeline has all that `flowerml reproduce` needs, the search included.
    """

    pipeline: "Pipeline"
    reports: Path
    repeatable: bool = True

    @property
    def examples(self) -> Examples:
        return Examples(self.pipeline.paths.examples)


@dataclass(frozen=True)
class Subject:
    """A classifier to register as a version of the model `section.registered_model`.

    `evaluated` is None where its examples are not on this machine: its accuracy is then not known. `travelling` are
    small examples that came with it.
    """

    classifier: Classifier
    section: "Export"
    run: str
    evaluated: Evaluated | None = None
    travelling: tuple[Raw, ...] = ()

    @property
    def name(self) -> str:
        return self.section.registered_model

    @property
    def experiment(self) -> str:
        return self.evaluated.pipeline.name if self.evaluated else self.name

    @property
    def examples(self) -> Examples | None:
        return self.evaluated.examples if self.evaluated else None

    @property
    def reports(self) -> Path | None:
        return self.evaluated.reports if self.evaluated else None

    @property
    def source(self) -> str | None:
        """Return what it was trained on, as its parameters name it."""
        if self.evaluated:
            return self.evaluated.pipeline.data.source
        source = self.classifier.description["parameters"].get("data.source")
        return source if isinstance(source, str) else None

    def example(self) -> Raw:
        """Return an input to try the version with: of its test split, else one that no model was trained on."""
        if self.examples is not None and (example := next(self.examples.of("test"), None)):
            return example.raw
        if self.travelling:
            return self.travelling[0]
        task = self.classifier.task
        return (task.samples(self.classifier.classes) or task.samples(None))[0]

    def tags(self) -> dict[str, str]:
        """Return the lineage tags of the run and of the version."""
        weights = {"weights_digest": lineage.weights_digest(self.classifier.folder)}
        trained = self.classifier.description["trained"]
        if self.evaluated is None:
            return {**lineage.recorded_tags(trained), **weights}
        origin, digest = origin_of(self.evaluated.pipeline), self.evaluated.examples.digest()
        return {**lineage.lineage_tags(origin, digest, stage="export", threads=trained["threads"]), **weights}


def submit(subject: Subject, *, copy: Path | None = None, result: Path | None = None) -> Registration:
    """Register a classifier as a version, and give it the alias if it passes the gate.

    `copy` is where the registered model is copied to, `result` where the registration is written as JSON. Raises
    ModelError for a classifier whose files do not fit together.
    """
    classifier, section = subject.classifier, subject.section
    register.check_name(subject.name)
    saved.check_weights(classifier.folder, classifier.description)
    tags = subject.tags()
    with runs.run(subject.experiment, subject.run, tags) as run:
        _record(run, subject)
        promotion.mark_interrupted(run.client, section.registered_model)
        logged = register.log_model(run, classifier, example=subject.example(), name=subject.name)
        _measure(run, subject, logged)
        candidate = _candidate(subject, logged)
        _describe(subject, logged, candidate, tags, copy)
        decision = _decide(run, subject, candidate)
        title = register.add_title(logged, candidate, decision)
        registration = Registration.of(logged, section.alias, decision, tags["weights_digest"])
        _log_result(run, registration, title, result)
    return registration


def _record(run: runs.Run, subject: Subject) -> None:
    """Log parameters, reports and lineage to the run, as far as they are known."""
    trained = subject.classifier.description["parameters"]
    if subject.evaluated is None:
        run.params(trained)
        return
    pipeline, reports = subject.evaluated.pipeline, subject.evaluated.reports
    run.params(lineage.logged_parameters(trained, pipeline.parameters()))
    run.artifact(reports, "reports")
    origin, examples = origin_of(pipeline), subject.evaluated.examples
    lineage.log_datasets(run, origin, examples)
    if subject.evaluated.repeatable:
        lineage.log_lineage(run, origin, examples, classifier=subject.classifier.folder, reports=reports)


def _measure(run: runs.Run, subject: Subject, logged: Logged) -> None:
    """Log the metrics on the test split, if they are known."""
    if subject.evaluated is not None:
        datasets = lineage.datasets(origin_of(subject.evaluated.pipeline), subject.evaluated.examples)
        test = next(dataset for dataset in datasets if dataset.context == "test")
        metrics = files.read_json(subject.evaluated.reports / "metrics.json")
        register.measure(run, logged, metrics, dataset=test.name, digest=test.digest)


def _candidate(subject: Subject, logged: Logged) -> Candidate:
    """Return what the gate compares of the new version."""
    metrics = files.read_json(subject.reports / "metrics.json") if subject.reports else {}
    return Candidate(
        version=logged.version,
        accuracy=metrics.get("accuracy"),
        test_digest=subject.examples.digest("test") if subject.examples else None,
        classes=subject.classifier.classes,
        answers=promotion.read_answers(subject.reports / "predictions.csv") if subject.reports else None,
        ece=metrics.get("ece"),
        size=register.size(subject.classifier),
        source=without_secrets(subject.source) if subject.source else None,
    )


def _describe(
    subject: Subject, logged: Logged, candidate: Candidate, tags: Mapping[str, str], copy: Path | None
) -> None:
    """Tag the version, add its model card, and copy the registered model to the project."""
    register.describe(logged, candidate, tags)
    facts = card.facts(
        subject.classifier,
        subject.examples,
        source=subject.source,
        reports=subject.reports,
        name=logged.name,
        version=logged.version,
        tags=tags,
    )
    register.add_card(logged, facts)
    if copy is not None:
        register.copy(logged, copy, facts)


def _decide(run: runs.Run, subject: Subject, candidate: Candidate) -> Decision:
    """Have the gate decide on the alias, within what `export.promote` permits."""
    section = subject.section
    if candidate.accuracy is None:
        return promotion.not_judged(
            run.client,
            section.registered_model,
            candidate.version,
            "its accuracy is not known, as the examples that it was trained and tested on are not in this folder",
        )
    cautious = section.promote == "repro" and _is_experiment()
    takes: Takes = "none" if section.promote == "never" else "sample" if cautious else "any"
    return promotion.submit(
        run.client,
        section.registered_model,
        section.alias,
        candidate,
        section.gate,
        test=subject.examples,
        takes=takes,
        how=history.EXPERIMENT if cautious else history.GATE,
    )


def _is_experiment() -> bool:
    """Return whether DVC runs this for `dvc exp run`, in the project or elsewhere (--temp, --queue)."""
    return any(os.environ.get(name) for name in DVC_EXPERIMENT)


def _log_result(run: runs.Run, registration: Registration, title: str, path: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
        path = path or Path(scratch, "registration.json")
        files.write_json(path, registration.to_json())
        run.artifact(path)
    run.tags(
        {
            "registered_version": registration.version,
            "promoted": registration.promoted,
            "reason": registration.reason,
            "mlflow.note.content": f"**{registration.name} {title}**: {register.summary(registration)}.",
        }
    )


def of_training(pipeline: "Pipeline", classifier: Classifier, name: str) -> Registration:
    """Register what `flowerml train` has just trained and evaluated."""
    section = pipeline.export.model_copy(update={"registered_model": name})
    return submit(Subject(classifier, section, "register", Evaluated(pipeline, pipeline.paths.reports)))
