"""The stage `train` with its progress on the terminal or in the log file."""

from typing import TYPE_CHECKING

from flowerml.cli import progress

if TYPE_CHECKING:
    from flowerml.config.pipeline import Pipeline
    from flowerml.pipeline.train import TrainResult


def run(pipeline: "Pipeline") -> "TrainResult":
    """Search a pipeline's hyperparameters and save the best classifier where dvc.yaml expects it."""
    from flowerml.pipeline import train

    return train.run(pipeline, show_progress=progress.reporter)
