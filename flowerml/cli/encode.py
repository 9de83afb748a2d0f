"""`flowerml encode`: encode a pipeline's examples, also a share of them in each of many commands."""

import argparse
import os
import sys
from typing import Annotated

import typer

from flowerml.cli import options, output, stage

NAME = "encode"
EXAMPLES = """[bold]Examples[/]

  flowerml encode flowers
  flowerml encode flowers --shard 3/16
  flowerml encode flowers --join
  flowerml encode flowers --workers 4
"""
PIPELINE = "one of the names under `pipelines:` in params.yaml"
SHARD = "Encode only one of N equal shares of the examples, such as 3/16. Shares may run at the same time, anywhere."
JOIN = "Put all shards together: the file is the one that a single process would write."


def main(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help=f"The pipeline: {PIPELINE}.")],
    shard: Annotated[str | None, typer.Option(metavar="I/N", help=SHARD)] = None,
    join: Annotated[bool, typer.Option("--join", help=JOIN)] = False,
    engine: options.EngineOption = None,
    address: options.Address = None,
    workers: options.Workers = None,
) -> None:
    """Encode the examples of a pipeline of params.yaml, as `dvc repro encode@PIPELINE` does: at once, or in shards.

    A killed command goes on where it was. Examples that were encoded before are reused.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars clutter a log file
    options.use_workers(engine, address, workers)
    encode(pipeline, shard, join=join)


def parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m stages.encode`."""
    arguments = stage.parser("Encode a pipeline's training and validation examples once for all trials.")
    arguments.add_argument("--shard", metavar="I/N", help=SHARD)
    arguments.add_argument("--join", action="store_true", help=JOIN)
    return arguments


def encode(name: str, shard: str | None, *, join: bool) -> None:
    """Encode a pipeline's examples, a shard of them, or join the shards; print a summary. Raises FlowermlError."""
    from flowerml.core.errors import FlowermlError
    from flowerml.pipeline import encode as whole
    from flowerml.pipeline import shards

    if shard is not None and join:
        raise FlowermlError("--join: is for after all shards have ended; leave out --shard or --join")
    if shard is not None:
        chosen = shards.Shard.parse(shard)
        output.print_text(shards.summary(shards.encode_shard(stage.pinned_pipeline(name), chosen)))
    elif join:
        stage.in_turn(name, shards.join, lambda report: shards.summary_of_join(name, report))
    else:
        stage.in_turn(name, whole.run, whole.summary, before_train="encode")
