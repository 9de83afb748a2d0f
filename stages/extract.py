"""Stage `extract`: data/<pipeline>/archive -> examples.parquet and checks.json."""

from flowerml.cli import stage
from flowerml.pipeline import extract

if __name__ == "__main__":
    stage.run(extract.run, extract.summary, before_train="extract")
