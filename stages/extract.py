"""Stage `extract`: data/<pipeline>/archive -> examples.parquet and checks.json."""

from flowerml import extraction, files, stage, tasks


def main(name: str) -> None:
    """Read a pipeline's data into one table of examples."""
    pipeline = tasks.pipeline(name)
    report = extraction.extract(pipeline)
    files.write_json(pipeline.paths.checks, report)
    print(extraction.summary(report))


if __name__ == "__main__":
    stage.run(main)
