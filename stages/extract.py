"""Stage `extract`: data/<pipeline>/archive -> examples.parquet and checks.json."""

from flowerml.cli import stage
from flowerml.core import files
from flowerml.pipeline import extract
from flowerml.tasks import registry


def main(name: str) -> None:
    """Read a pipeline's data into one table of examples."""
    pipeline = registry.pipeline(name)
    report = extract.extract(pipeline)
    files.write_json(pipeline.paths.checks, report)
    print(extract.summary(report))


if __name__ == "__main__":
    stage.run(main)
