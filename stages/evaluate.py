"""Stage `evaluate`: the saved classifier on raw test examples -> metrics, tables and report in reports/<pipeline>."""

from flowerml.cli import stage
from flowerml.pipeline import evaluate

if __name__ == "__main__":
    stage.run(evaluate.run, evaluate.summary)
