"""Stage `encode`: examples.parquet -> encoded.arrow, the fitted encoder, and what shows in the encodings."""

from flowerml import encoding, stage, tasks
from flowerml.examples import Examples


def main(name: str) -> None:
    """Encode a pipeline's training and validation examples once, for all trials; those that changed, where some are."""
    pipeline = tasks.pipeline(name)
    paths = pipeline.paths
    table = Examples(paths.examples)
    encoder = pipeline.task.Encoder.fit(table.of("train"), pipeline.encode, pipeline.data.limits)
    print(encoding.encode(paths.encoded, table, encoder, pipeline.encode))
    encoder.save(paths.encoder)
    for one in encoding.check(pipeline, table):
        print(f"{one['severity']}: {one['name']}: {one['text']}")


if __name__ == "__main__":
    stage.run(main)
