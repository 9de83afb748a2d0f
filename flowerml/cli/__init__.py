"""The command line: `flowerml train`, `predict`, `evaluate` and the others, and the command line of a stage."""

import sys


def main() -> None:
    """Run the command in sys.argv and exit: 0 for success, 1 for an error, 2 for wrong usage, 141 for a closed pipe."""
    from flowerml.cli import streams

    streams.open_closed()
    try:
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
