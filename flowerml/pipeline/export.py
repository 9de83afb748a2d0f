"""Stage `export`: register the classifier with its report as a version, and let the gate decide on the alias."""

from flowerml.classifier.classifier import Classifier
from flowerml.config.pipeline import Pipeline
from flowerml.pipeline import exported, register
from flowerml.pipeline.register import Evaluated, Subject
from flowerml.registry.register import Registration, summary

__all__ = ["run", "summary"]


def run(pipeline: Pipeline) -> Registration:
    """Register a pipeline's classifier as a version, and give it the alias if it passes the gate."""
    paths = pipeline.paths
    classifier = Classifier.load(paths.classifier)
    subject = Subject(classifier, pipeline.export, "export", Evaluated(pipeline, paths.reports))
    registration = register.submit(subject, copy=paths.mlflow_model, result=paths.registration)
    exported.write(pipeline, weights_digest=registration.weights_digest)
    return registration
