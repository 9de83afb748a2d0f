"""The command line that all stages share."""

import argparse
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from flowerml.cli import extras, output
from flowerml.config import params, pin
from flowerml.config.entries import entry
from flowerml.config.paths import Paths
from flowerml.config.pipeline import Pipeline
from flowerml.core import os_errors
from flowerml.core.errors import FlowermlError, ParamsError
from flowerml.core.locks import hold_lock
from flowerml.core.urls import scrub_output
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tracking import reachable

R = TypeVar("R")
# The parameters of the stages in dvc.yaml.
OF_DVC = ("data", "data.limits", "data.checks", "encode", "train", "evaluate", "export")


def run(
    stage: Callable[[Pipeline], R], summary: Callable[[R], str] | None = None, *, before_train: str | None = None
) -> None:
    """Call `stage` with the pipeline named on the command line, and print its summary; one at a time per pipeline."""
    name = parser(stage.__doc__).parse_args().pipeline

    def command() -> None:
        _check_dvc_finds_sections(name)
        in_turn(name, stage, summary, before_train=before_train)

    execute(command)


def _check_dvc_finds_sections(name: str) -> None:
    """Raise ParamsError where params.yaml lacks a section that this repository's dvc.yaml names as a parameter.

    DVC would say so only when the stage has ended. The projects of `flowerml init` have a stage that fills them in.
    """
    path = params.PARAMS_FILE
    values = params.read(path)
    entry(values, name, path)
    for section in OF_DVC:
        if not _has(values.get(name), section):
            raise ParamsError(
                f"{path}: {name}.{section}: missing, and a parameter of a stage in dvc.yaml; write at least "
                f"`{section.rpartition('.')[2]}: {{}}` there: what is left out takes its default"
            )


def _has(sections: object, section: str) -> bool:
    """Return whether nested sections have one of this dotted name."""
    for part in section.split("."):
        if not isinstance(sections, dict) or part not in sections:
            return False
        sections = sections[part]
    return True


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the argument that all stages have."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("pipeline", help="one of the names under `pipelines:` in params.yaml")
    return arguments


def in_turn(
    name: str,
    stage: Callable[[Pipeline], R],
    summary: Callable[[R], str] | None = None,
    *,
    before_train: str | None = None,
) -> None:
    """Call `stage` with a pipeline once no other process runs it, and print its summary.

    One that comes `before_train`, by its name, says at once that a tracking server cannot be reached.
    """
    if before_train:
        reachable.warn(before_train)
    # If only `dvc repro` was killed, its stage is still running.
    with hold_lock(Paths(name).lock, waiting=f"{name}: another process is running it; waiting for it to finish"):
        result = stage(pinned_pipeline(name))
        if summary is not None:
            output.print_text(summary(result))


def pinned_pipeline(name: str) -> Pipeline:
    """Return a pipeline of params.yaml; raises ParamsError, also where the file is pinned to another version."""
    pin.check(params.read(), params.PARAMS_FILE)
    return load_pipeline(name)


def execute(command: Callable[[], None]) -> None:
    """Call the command of a process.

    A FlowermlError becomes one line (or one for each problem) and exit code 1, as do errors of the system such as a
    full disk or a read-only folder. Ctrl-C and SIGTERM give exit code 130. Anything else is a bug and keeps its trace.
    """
    scrub_output()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command()
    except FlowermlError as error:
        output.print_error(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        output.say("interrupted; re-run the command to resume")
        sys.exit(130)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("flowerml"):
            raise
        output.print_error(extras.message("stage", error.name.partition(".")[0]))
        sys.exit(1)
    except Exception as error:  # errors of the system come from libraries in many types
        line = os_errors.explain_os_error(error)
        if line is None:
            raise
        output.print_error(line)
        sys.exit(1)
