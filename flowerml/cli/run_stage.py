"""`flowerml stage`: one stage of a pipeline, as the dvc.yaml of a project calls it."""

from typing import Annotated

import typer

from flowerml.cli import encode as encoding
from flowerml.cli import stage, stage_table

NAME = "stage"
EXAMPLES = """[bold]Examples[/]

  flowerml stage train flowers
  flowerml stage encode flowers --shard 3/16
"""


def main(
    name: Annotated[
        str,
        typer.Argument(
            metavar="STAGE", help="The stage: params, download, extract, encode, train, evaluate or export."
        ),
    ],
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help=f"The pipeline: {encoding.PIPELINE}.")],
    shard: Annotated[str | None, typer.Option(metavar="I/N", help=f"With encode. {encoding.SHARD}")] = None,
    join: Annotated[bool, typer.Option("--join", help=f"With encode. {encoding.JOIN}")] = False,
) -> None:
    """Run a stage of a pipeline of params.yaml, as `dvc repro` does where dvc.yaml calls it.

    Refuses another version of flowerml than the one that params.yaml is pinned to.
    """
    if name == "encode":
        stage.execute(lambda: encoding.encode(pipeline, shard, join=join))
    elif shard is not None or join:
        raise typer.BadParameter("--shard and --join are for the stage encode; leave them out")
    else:
        stage_table.run(name, pipeline)
