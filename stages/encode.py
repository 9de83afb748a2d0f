"""Stage `encode`: examples.parquet -> encoded.arrow, the fitted encoder, and the findings in the encodings."""

from flowerml.cli import stage
from flowerml.pipeline import encode

if __name__ == "__main__":
    stage.run(encode.run, encode.summary)
