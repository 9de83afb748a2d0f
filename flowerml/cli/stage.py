"""The command line that all stages share."""

import argparse
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from flowerml.cli import output
from flowerml.config.paths import Paths
from flowerml.config.pipeline import Pipeline
from flowerml.core import os_errors
from flowerml.core.errors import FlowermlError
from flowerml.core.locks import hold_lock
from flowerml.core.urls import scrub_output
from flowerml.engine.parallel import thread_count
from flowerml.tasks.pipelines import load_pipeline

R = TypeVar("R")


def run(stage: Callable[[Pipeline], R], summary: Callable[[R], str] | None = None) -> None:
    """Call `stage` with the pipeline named on the command line, and print its summary; one at a time per pipeline.

    A FlowermlError becomes one line (or one for each problem) and exit code 1, as do errors of the system such as a
    full disk or a read-only folder. Ctrl-C and SIGTERM give exit code 130. Anything else is a bug and keeps its trace.
    """
    parser = argparse.ArgumentParser(description=stage.__doc__)
    parser.add_argument("pipeline", help="one of the names under `pipelines:` in params.yaml")
    name = parser.parse_args().pipeline
    scrub_output()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        thread_count()  # a wrong FLOWERML_THREADS fails here, and not when a training of hours saves its classifier
        # If only `dvc repro` was killed, its stage is still running.
        with hold_lock(Paths(name).lock, waiting=f"{name}: another process is running it; waiting for it to finish"):
            result = stage(load_pipeline(name))
            if summary is not None:
                output.print_text(summary(result))
    except FlowermlError as error:
        output.print_error(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        output.say("interrupted; re-run the command to resume")
        sys.exit(130)
    except Exception as error:  # errors of the system come from libraries in many types
        line = os_errors.explain_os_error(error)
        if line is None:
            raise
        output.print_error(line)
        sys.exit(1)
