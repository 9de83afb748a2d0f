"""Stage `train`: encoded.arrow -> the classifier, the table of trials and the winner's curves; one run a trial."""

import torch

from flowerml import lineage, sources, stage, tasks, training
from flowerml.classifier import Classifier
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
    Classifier.save(
        paths.classifier,
        kind=pipeline.kind,
        encoder=encoder,
        network=winner.network,
        classes=classes,
        names=sources.category_names(paths.category_names),
        parameters=training.parameters(pipeline, winner.trial),
        trained={
            **{"pipeline": name, "data_digest": digest, "threads": torch.get_num_threads()},
            **winner.trial.score(),
            **lineage.environment(),
        },
    )
    training.write_tables(search, paths.reports)


if __name__ == "__main__":
    stage.run(main)
