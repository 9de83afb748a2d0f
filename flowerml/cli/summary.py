"""`flowerml summary`: where the pipelines of a project stand, and how to go on."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flowerml.cli import extras, options, output
from flowerml.pipeline.summary import Standing, standings

NAME = "summary"
EXAMPLES = """[bold]Examples[/]

  flowerml summary
  flowerml summary --json
"""
LATER = "FLOWERML_SUMMARY_LATER"  # set by a caller of `dvc repro` who prints it afterwards, whatever has changed
WIDTH = 80  # columns where stdout is no terminal
LONGEST_REASON = 400  # characters
SHOWN_REPORTS = 3


def main(
    json: options.Json = False,
    last_stage: Annotated[bool, typer.Option("--last-stage", hidden=True, help=f"Nothing if {LATER} is set.")] = False,
) -> None:
    """Show the accuracy of each pipeline of params.yaml, the version that was registered, and how to go on.

    It reads the files that `dvc repro` has written. What the registry has now: flowerml models.
    """
    if last_stage:
        of_stage()
        return
    results = standings()
    if json:
        for result in results:
            output.json_line(asdict(result))
    else:
        show(results)


def of_stage() -> None:
    """Show the summary as the last stage of `dvc repro`."""
    if not os.environ.get(LATER):
        show(standings())


def show(results: Sequence[Standing]) -> None:
    """Print the table, the reasons of the gate, and the commands to go on with."""
    columns = ("pipeline", "test accuracy", "95 % interval", "examples", "version")
    output.table(columns, map(_row, results), numbers=("test accuracy", "examples"))
    for result in results:
        if result.version is not None:
            output.print_text(_wrapped(_decision(result)))
    commands = list(_commands(results))
    width = max(len(command) for command, _ in commands)
    output.print_text("\ngo on with")
    for command, purpose in commands:
        output.print_text(_wrapped(f"{command:<{width}}  {purpose}", indent="  "))


def _row(result: Standing) -> list[str]:
    accuracy = "not evaluated" if result.accuracy is None else f"{result.accuracy:.3f}"
    interval = "" if result.low is None or result.high is None else f"{result.low:.3f} to {result.high:.3f}"
    examples = "" if result.examples is None else f"{result.examples:,}"
    return [result.pipeline, accuracy, interval, examples, _version(result)]


def _version(result: Standing) -> str:
    if result.version is None:
        return "not registered"
    if not result.current:
        return f"{result.version} (of other weights)"
    return f"{result.version}, {result.alias}" if result.promoted else result.version


def _decision(result: Standing) -> str:
    became = f"is {result.alias}" if result.promoted else f"did not become {result.alias}"
    decision = f"{result.model} version {result.version} {became}: {output.short(result.reason or '', LONGEST_REASON)}"
    if result.current:
        return decision
    return f"{decision}; the classifier has changed since: run `dvc repro` to register it"


def _commands(results: Sequence[Standing]) -> Iterator[tuple[str, str]]:
    """Yield commands and links to go on with, and what each is for."""
    program = _program()
    yield f"{program} ui", "runs and versions in the browser"
    if (model := _served(results)) is not None:
        yield f"{program} serve {model}", "answers over HTTP, on port 5001"
    if any(result.classifier for result in results):
        yield f"{program} web", f"a page{extras.page_note('; ') or ' to try them on'}"
    reports = [result.report for result in results if result.report]
    for report in reports[:SHOWN_REPORTS]:
        yield report, "mistakes, intervals, calibration"
    if not results or not reports:
        yield "dvc repro", "run the stages that have not run"


def _served(results: Sequence[Standing]) -> str | None:
    """Return the model to serve: the first that was promoted, else a registered one, else a classifier's folder."""
    registered = sorted((result for result in results if result.version), key=lambda result: not result.promoted)
    if registered:
        first = registered[0]
        return f"models:/{first.model}@{first.alias}" if first.promoted else f"models:/{first.model}/{first.version}"
    return next((result.classifier for result in results if result.classifier), None)


def _program() -> str:
    """Return how to call flowerml from this folder, also where the environment is not activated (`make repro`)."""
    own = Path(sys.prefix, "bin", "flowerml")
    if os.environ.get("VIRTUAL_ENV") or not own.is_relative_to(Path.cwd()) or not own.exists():
        return "flowerml"
    return own.relative_to(Path.cwd()).as_posix()


def _wrapped(text: str, indent: str = "") -> str:
    columns = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    return textwrap.fill(
        text,
        columns,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
