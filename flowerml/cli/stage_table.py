"""The stages by name, for `flowerml stage`: without typer, which takes 0.1 s of each of the stages of a `dvc repro`."""

import sys
from collections.abc import Callable

from flowerml.cli import environment, output, stage
from flowerml.core.display import did_you_mean

WRONG_USAGE = 2


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
    from flowerml.cli import encode

    encode.encode(pipeline, None, join=False)


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
