"""The command line: `flowerml train`, `predict`, `evaluate` and the others, and the command line of a stage."""

import sys
from collections.abc import Callable
from functools import partial


def main() -> None:
    """Run the command in sys.argv and exit: 0 for success, 1 for an error, 2 for wrong usage, 141 for a closed pipe."""
    from flowerml.cli import streams

    streams.open_closed()
    try:
        command = _command(sys.argv[1:])
    except ModuleNotFoundError as error:
        sys.exit(f"error: the command line needs {error.name}; run: pip install flowerml")
    try:
        try:
            command()
        finally:
            sys.stdout.flush()  # Python would do it after the exit code is decided
    except BrokenPipeError:
        streams.discard_stdout()
        sys.exit(streams.PIPE_CLOSED)
    except OSError as error:
        streams.discard_stdout()
        sys.exit(f"error: the output cannot be written: {error.strerror}")


def _command(arguments: list[str]) -> Callable[[], object]:
    """Return the app, or the stage of `flowerml stage STAGE PIPELINE`, which does without the other commands.

    Importing them takes 0.2 s, and a `dvc repro` of two pipelines calls fourteen stages.
    """
    if arguments[:1] == ["stage"] and len(arguments) == 3 and not any(part.startswith("-") for part in arguments):
        from flowerml.cli import stage_table

        return partial(stage_table.run, *arguments[1:])
    from flowerml.cli.app import app

    return partial(app, prog_name="flowerml")
