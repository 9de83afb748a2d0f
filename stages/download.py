"""Stage `download`: the source of the data -> data/<pipeline>/archive and category_names.json."""

from flowerml import sources, stage, tasks


def main(name: str) -> None:
    """Fetch a pipeline's data."""
    sources.fetch(tasks.pipeline(name))


if __name__ == "__main__":
    stage.run(main)
