"""Stage `export`: classifier and report -> the MLflow model, a registered version, and the gate to the alias."""

from flowerml.cli import stage
from flowerml.pipeline import export

if __name__ == "__main__":
    stage.run(export.run, export.summary)
