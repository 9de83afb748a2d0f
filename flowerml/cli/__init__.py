"""The command line: `flowerml train`, `predict`, `evaluate` and the others, and the command line of a stage."""

import sys


def main() -> None:
    """Run the command in sys.argv and exit: 0 for success, 1 for an error, 2 for wrong usage, 141 for a closed pipe."""
    from flowerml.cli import streams

    streams.open_closed()
    try:
        if _is_stage(sys.argv[1:]):
            from flowerml.cli import stage_table

            return stage_table.run(*sys.argv[2:])
        from flowerml.cli.app import app
    except ModuleNotFoundError as error:
        sys.exit(f"error: the command line needs {error.name}; run: pip install flowerml")
    try:
        try:
            app(prog_name="flowerml")
        finally:
            sys.stdout.flush()  # Python would do it after the exit code is decided
    except BrokenPipeError:
        streams.discard_stdout()
        sys.exit(streams.PIPE_CLOSED)
    except OSError as error:
        streams.discard_stdout()
        sys.exit(f"error: the output cannot be written: {error.strerror}")


def _is_stage(arguments: list[str]) -> bool:
    """Return whether `flowerml stage STAGE PIPELINE` was called, which does without the other commands.

    Importing them takes 0.2 s, and a `dvc repro` of two pipelines calls fourteen stages.
    """
    return arguments[:1] == ["stage"] and len(arguments) == 3 and not any(part.startswith("-") for part in arguments)
