"""Stage `export`: classifier and report -> the MLflow model, a registered version, and the champion's alias."""

import dataclasses

from flowerml import files, lineage, registry, stage, tasks, tracking
from flowerml.classifier import Classifier
from flowerml.examples import Examples
from flowerml.gate import Contender


def main(name: str) -> None:
    """Register a pipeline's classifier."""
    pipeline = tasks.pipeline(name)
    paths = pipeline.paths
    examples = Examples(paths.examples)
    classifier = Classifier.load(paths.classifier)
    metrics = files.read_json(paths.reports / "metrics.json")
    registered = pipeline.export.registered_model
    tags = {"pipeline": name, "data_digest": examples.digest(), **lineage.git()}
    with tracking.run(name, "export", {**tags, **lineage.environment()}) as run:
        # Those of the stages after training may have changed since.
        later = {key: value for key, value in pipeline.parameters().items() if key.startswith(("evaluate.", "export."))}
        run.params({**classifier.description["parameters"], **later})
        run.metrics(metrics)
        run.artifact(paths.reports, "reports")
        example = next(examples.of("test")).raw
        version = registry.log_model(run, classifier, example=example, name=registered, folder=paths.mlflow_model)
        new = Contender(version, metrics["accuracy"], examples.digest("test"), classifier.classes)
        result = registry.promote(name=registered, alias=pipeline.export.alias, new=new, tags=tags)
        run.tags({"registered_version": version, "promoted": result.promoted, "reason": result.reason})
    files.write_json(paths.registration, dataclasses.asdict(result))
    print(registry.summary(result))


if __name__ == "__main__":
    stage.run(main)
