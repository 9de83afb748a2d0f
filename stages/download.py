"""Stage `download`: the source of the data -> data/<pipeline>/archive and category_names.json."""

from flowerml.cli import stage
from flowerml.pipeline import download
from flowerml.tasks import registry


def main(name: str) -> None:
    """Fetch a pipeline's data."""
    download.fetch(registry.pipeline(name))


if __name__ == "__main__":
    stage.run(main)
