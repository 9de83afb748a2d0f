"""Stage `download`: the source of the data -> data/<pipeline>/archive and category_names.json."""

from flowerml.cli import stage
from flowerml.pipeline import download

if __name__ == "__main__":
    stage.run(download.run)
