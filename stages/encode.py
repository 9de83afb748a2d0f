"""Stage `encode`: examples.parquet -> encoded.arrow, the fitted encoder, and the findings in the encodings."""

from flowerml.cli import encode, stage

if __name__ == "__main__":
    arguments = encode.parser().parse_args()
    stage.execute(lambda: encode.encode(arguments.pipeline, arguments.shard, join=arguments.join))
