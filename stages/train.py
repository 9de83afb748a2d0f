"""Stage `train`: encoded.arrow -> the classifier, the table of trials and the winner's curves; one run a trial."""

from flowerml import sources, stage, tasks, tracking, training
from flowerml.encoded import Encoded
from flowerml.examples import Examples


def main(name: str) -> None:
    """Search a pipeline's hyperparameters and save the best classifier."""
    pipeline = tasks.pipeline(name)
    tracking.check()
    paths = pipeline.paths
    encoded = Encoded.read(paths.encoded)
    examples = Examples(paths.examples)
    digest = examples.digest()
    encoder = pipeline.task.Encoder.load(paths.encoder)
    search, winner = training.train(pipeline, encoded, encoder, examples=examples, data_digest=digest)
    names = sources.category_names(paths.category_names)
    folder = paths.classifier
    training.save(
        *(pipeline, winner, encoder),
        classes=encoded.classes,
        names=names,
        data_digest=digest,
        folder=folder,
        examples=examples,
    )
    training.write_tables(search, paths.reports)
    training.forget(pipeline)


if __name__ == "__main__":
    stage.run(main)
