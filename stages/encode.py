"""Stage `encode`: examples.parquet -> encoded.arrow and the fitted encoder."""

from tqdm import tqdm

from flowerml import encoded, stage, tasks
from flowerml.examples import Examples


def main(name: str) -> None:
    """Encode a pipeline's training and validation examples once, for all trials."""
    pipeline = tasks.pipeline(name)
    paths = pipeline.paths
    table = Examples(paths.examples)
    encoder = pipeline.task.Encoder.fit(table.of("train"), pipeline.encode)
    keys = table.keys("train", "valid")
    rows = encoder.encode(table.of("train", "valid"), pipeline.encode)
    bar = tqdm(zip(keys, rows, strict=True), total=len(keys), desc="encode", unit="example")
    encoded.write(paths.encoded, bar, columns=dict(encoder.columns))
    encoder.save(paths.encoder)


if __name__ == "__main__":
    stage.run(main)
