"""`flowerml stage`: one stage of a pipeline, as the dvc.yaml of a project calls it."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from flowerml.cli import encode as encoding
from flowerml.cli import environment, output, stage
from flowerml.core.display import did_you_mean

NAME = "stage"
EXAMPLES = """[bold]Examples[/]

  flowerml stage train flowers
  flowerml stage encode flowers --shard 3/16
"""
WRONG_USAGE = 2


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
        run(name, pipeline)


def run(name: str, pipeline: str) -> None:
    """Run a stage and exit: 0, 1 for an error in one line, 2 for an unknown stage, 130 for an interrupt."""
    environment.prepare()
    if name not in STAGES:
        hint = did_you_mean(name, STAGES) or f"known are {', '.join(STAGES)}"
        output.print_error(f"no stage {name!r}; {hint}")
        sys.exit(WRONG_USAGE)

    def command() -> None:
        stage.pinned_pipeline(pipeline)  # a wrong name or version is said before torch is imported, which takes seconds
        STAGES[name](pipeline)

    stage.execute(command)


def _params(pipeline: str) -> None:
    from flowerml.pipeline import parameters

    stage.in_turn(pipeline, parameters.run, parameters.summary)


def _download(pipeline: str) -> None:
    from flowerml.pipeline import download

    stage.in_turn(pipeline, download.run)


def _extract(pipeline: str) -> None:
    from flowerml.pipeline import extract

    stage.in_turn(pipeline, extract.run, extract.summary, before_train="extract")


def _encode(pipeline: str) -> None:
    encoding.encode(pipeline, None, join=False)


def _train(pipeline: str) -> None:
    from flowerml.cli import train_stage

    stage.in_turn(pipeline, train_stage.run)


def _evaluate(pipeline: str) -> None:
    from flowerml.pipeline import evaluate

    stage.in_turn(pipeline, evaluate.run, evaluate.summary)


def _export(pipeline: str) -> None:
    from flowerml.pipeline import export

    stage.in_turn(pipeline, export.run, export.summary)


STAGES: dict[str, Callable[[str], None]] = {
    "params": _params,
    "download": _download,
    "extract": _extract,
    "encode": _encode,
    "train": _train,
    "evaluate": _evaluate,
    "export": _export,
}
