"""Stage `evaluate`: the classifier on the raw test examples -> metrics, tables and plots in reports/<pipeline>."""

from flowerml import evaluation, stage, tasks
from flowerml.classifier import Classifier
from flowerml.examples import Examples


def main(name: str) -> None:
    """Score a pipeline's classifier on its test split."""
    pipeline = tasks.pipeline(name)
    examples = Examples(pipeline.paths.examples)
    classifier = Classifier.load(pipeline.paths.classifier)
    result = evaluation.evaluate(classifier, examples.of("test"), batch_size=pipeline.evaluate.batch_size)
    numbers = result.write(pipeline.paths.reports, top_k=pipeline.evaluate.top_k)
    print(", ".join(f"{key} {value:.4f}" for key, value in numbers.items()))


if __name__ == "__main__":
    stage.run(main)
