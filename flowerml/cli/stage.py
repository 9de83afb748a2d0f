"""The command line of a stage."""

import argparse
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from flowerml.config.paths import Paths
from flowerml.config.pipeline import Pipeline
from flowerml.core import os_errors
from flowerml.core.errors import FlowermlError
from flowerml.core.locks import hold_lock
from flowerml.tasks.pipelines import load_pipeline

R = TypeVar("R")


def run(stage: Callable[[Pipeline], R], summary: Callable[[R], str] | None = None) -> None:
    """Call `stage` with the pipeline named on the command line, and print its summary; one stage of a pipeline at a time.

    A FlowermlError becomes one line (one for each thing wrong) and exit code 1, and so does an error of the system: a
    full disk, a folder that may not be written to. Ctrl-C and SIGTERM are exit code 130. Anything else is a bug and
    keeps its stack trace.
    """
    parser = argparse.ArgumentParser(description=stage.__doc__)
    parser.add_argument("pipeline", help="one of the names under `pipelines:` in params.yaml")
    name = parser.parse_args().pipeline
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Where only `dvc repro` was killed, its stage is still running.
        with hold_lock(Paths(name).lock, waiting=f"{name}: another process is working on it; waiting for it to end"):
            result = stage(load_pipeline(name))
            if summary is not None:
                print(summary(result))
    except FlowermlError as error:
        _end(str(error))
    except KeyboardInterrupt:
        print("interrupted; re-run the command to resume", file=sys.stderr)
        sys.exit(130)
    except Exception as error:  # errors of the system come from libraries in many types
        line = os_errors.explain_os_error(error)
        if line is None:
            raise
        _end(line)


def _end(lines: str) -> None:
    for line in lines.splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(1)
