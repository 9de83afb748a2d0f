"""What every stage's command line has in common."""

import argparse
import signal
import sys
from collections.abc import Callable

from flowerml.config.paths import Paths
from flowerml.core import os_errors
from flowerml.core.errors import FlowermlError
from flowerml.core.locks import hold_lock


def run(main: Callable[[str], None]) -> None:
    """Call `main` with the pipeline named on the command line; one stage of a pipeline at a time.

    A FlowermlError becomes one line (one for each thing wrong) and exit code 1, and so does what the system refuses:
    a full disk, a folder that may not be written to. Ctrl-C, or being asked to end, is exit code 130. Anything else is
    a bug and keeps its stack trace.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("pipeline", help="one of the names under `pipelines:` in params.yaml")
    name = parser.parse_args().pipeline
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # A stage whose `dvc repro` was killed alone is still at work.
        with hold_lock(Paths(name).lock, waiting=f"{name}: another process is at work on it; waiting for its end"):
            main(name)
    except FlowermlError as error:
        _end(str(error))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:  # of any library: what the system refuses comes in many types
        line = os_errors.explain_os_error(error)
        if line is None:
            raise
        _end(line)


def _end(lines: str) -> None:
    for line in lines.splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(1)
