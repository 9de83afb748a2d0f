"""Stage `encode`: examples.parquet -> encoded.arrow, the fitted encoder, and what shows in the encodings."""

from flowerml.cli import stage
from flowerml.data.examples import Examples
from flowerml.pipeline import encode
from flowerml.tasks import registry


def main(name: str) -> None:
    """Encode a pipeline's training and validation examples once, for all trials; those that changed, where some are."""
    pipeline = registry.pipeline(name)
    paths = pipeline.paths
    table = Examples(paths.examples)
    encoder = pipeline.task.Encoder.fit(table.of("train"), pipeline.encode, pipeline.data.limits)
    print(encode.encode(paths.encoded, table, encoder, pipeline.encode))
    encoder.save(paths.encoder)
    for one in encode.check(pipeline, table):
        print(f"{one['severity']}: {one['name']}: {one['text']}")


if __name__ == "__main__":
    stage.run(main)
