"""Stage `train`: encoded.arrow -> the classifier, the table of trials and the winner's curves; one run a trial."""

from flowerml.cli import stage
from flowerml.pipeline import train

if __name__ == "__main__":
    stage.run(train.run)
