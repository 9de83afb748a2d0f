"""Stage `train`: encoded.arrow -> the classifier, the table of trials and the winner's curves; one run a trial."""

from flowerml.cli import stage, train_stage

if __name__ == "__main__":
    stage.run(train_stage.run)
