"""Stage `train`: encoded.arrow -> the classifier, the table of trials and the winner's curves; one run a trial."""

from flowerml import sources, stage, tasks, training
from flowerml.encoded import Encoded
from flowerml.examples import Examples


def main(name: str) -> None:
    """Search a pipeline's hyperparameters and save the best classifier."""
    pipeline = tasks.pipeline(name)
    paths = pipeline.paths
    encoded = Encoded.read(paths.encoded)
    classes = encoded.classes
    digest = Examples(paths.examples).digest()
    encoder = pipeline.task.Encoder.load(paths.encoder)
    search, winner = training.train(pipeline, encoded, encoder, classes=classes, data_digest=digest)
    names = sources.category_names(paths.category_names)
    folder = paths.classifier
    training.save(pipeline, winner, encoder, classes=classes, names=names, data_digest=digest, folder=folder)
    training.write_tables(search, paths.reports)


if __name__ == "__main__":
    stage.run(main)
