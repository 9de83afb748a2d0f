"""Stage `evaluate`: the classifier on the raw test examples -> metrics, tables and a page in reports/<pipeline>."""

from flowerml.classifier.classifier import Classifier
from flowerml.cli import stage
from flowerml.data.examples import Examples
from flowerml.evaluation import report
from flowerml.tasks import registry


def main(name: str) -> None:
    """Score a pipeline's classifier on its test split."""
    pipeline = registry.pipeline(name)
    classifier = Classifier.load(pipeline.paths.classifier)
    numbers = report.of_pipeline(pipeline, classifier, Examples(pipeline.paths.examples))
    print(", ".join(f"{key} {one.estimate:.4f} ({one.low:.4f} to {one.high:.4f})" for key, one in numbers.items()))


if __name__ == "__main__":
    stage.run(main)
