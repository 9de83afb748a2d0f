"""Stage `export`: classifier and report -> the MLflow model, a registered version, and the gate to the alias."""

import dataclasses

from flowerml.classifier.classifier import Classifier
from flowerml.cli import stage
from flowerml.core import files
from flowerml.data.examples import Examples
from flowerml.registry import card, promotion, register
from flowerml.registry.gate import Contender
from flowerml.tasks import registry
from flowerml.tracking import lineage, runs


def main(name: str) -> None:
    """Register a pipeline's classifier."""
    pipeline = registry.pipeline(name)
    paths, section = pipeline.paths, pipeline.export
    examples = Examples(paths.examples)
    classifier = Classifier.load(paths.classifier)
    metrics = files.read_json(paths.reports / "metrics.json")
    threads = classifier.description["trained"]["threads"]
    tags = lineage.tags(pipeline, examples.digest(), stage="export", threads=threads)
    tags["weights_digest"] = lineage.weights_digest(paths.classifier)
    with runs.run(name, "export", tags) as run:
        run.params(lineage.logged_parameters(pipeline, classifier.description["parameters"]))
        run.metrics(metrics)
        run.artifact(paths.reports, "reports")
        lineage.record(run, pipeline, examples)
        promotion.tell_of_interrupted(run.client, section.registered_model)
        example = next(examples.of("test")).raw
        logged = register.log_model(run, classifier, example=example, name=section.registered_model)
        new = Contender(
            version=logged.version,
            accuracy=metrics["accuracy"],
            test_digest=examples.digest("test"),
            classes=classifier.classes,
            answers=promotion.read_answers(paths.reports / "predictions.csv"),
            ece=metrics.get("ece"),
            size=register.size(paths.classifier),
        )
        register.describe(logged, new, tags)
        register.add_card(
            logged, card.facts(pipeline, classifier, examples, name=logged.name, version=logged.version, tags=tags)
        )
        register.copy(logged, paths.mlflow_model)
        verdict = promotion.admit(run.client, logged.name, section.alias, new, section.gate)
        result = register.Registration.of(logged, section.alias, verdict)
        files.write_json(paths.registration, dataclasses.asdict(result))
        run.artifact(paths.registration)
        run.tags({"registered_version": logged.version, "promoted": result.promoted, "reason": result.reason})
    print(register.summary(result))


if __name__ == "__main__":
    stage.run(main)
