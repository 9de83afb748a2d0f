"""Stage `train`: encoded.arrow -> the classifier, the table of trials and the winner's curves; one run a trial."""

from flowerml.cli import stage
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Examples
from flowerml.pipeline import download, train
from flowerml.tasks import registry
from flowerml.tracking import runs


def main(name: str) -> None:
    """Search a pipeline's hyperparameters and save the best classifier."""
    pipeline = registry.pipeline(name)
    runs.check()
    paths = pipeline.paths
    encoded = Encoded.read(paths.encoded)
    examples = Examples(paths.examples)
    digest = examples.digest()
    encoder = pipeline.task.Encoder.load(paths.encoder)
    search, winner = train.train(pipeline, encoded, encoder, examples=examples, data_digest=digest)
    names = download.category_names(paths.category_names)
    folder = paths.classifier
    train.save(
        *(pipeline, winner, encoder),
        classes=encoded.classes,
        names=names,
        data_digest=digest,
        folder=folder,
        examples=examples,
    )
    train.write_tables(search, paths.reports)
    train.forget(pipeline)


if __name__ == "__main__":
    stage.run(main)
