"""Running the stages of a version in its clean copy."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from flowerml.core.errors import FlowermlError
from flowerml.registry.reproduce.clean_copy import inherited_environment
from flowerml.registry.reproduce.recorded import Recorded
from flowerml.tracking.database import sqlite_uri

LAST_STAGE = "evaluate"  # all that is registered exists by then; `export` would register it again
RUNNING = re.compile(r"Running stage '(\w+)@")
SHOWN_ERRORS = 5

OnStage = Callable[[str], None]
"""Called with the name of each stage as it starts."""


def run(recorded: Recorded, copy: Path, scratch: Path, *, on_stage: OnStage) -> None:
    """Run the stages of a version's pipeline in its copy, with runs recorded in a database below `scratch`.

    Raises FlowermlError with the errors of a failing stage.
    """
    command = [sys.executable, "-m", "dvc", "repro", f"{LAST_STAGE}@{recorded.pipeline}"]
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=copy,
        env=_environment(scratch),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if started := RUNNING.search(line):
                on_stage(started[1])
    if process.returncode:
        errors = [line for line in lines if line.lower().startswith("error")] or lines
        raise FlowermlError("running the copy failed: " + " / ".join(errors[-SHOWN_ERRORS:]))


def _environment(scratch: Path) -> dict[str, str]:
    """Return the environment to run the stages of a copy in."""
    programs = str(Path(sys.executable).parent)
    return {
        **inherited_environment(),
        "PATH": programs + os.pathsep + os.environ.get("PATH", ""),
        "MLFLOW_TRACKING_URI": sqlite_uri(scratch / "mlflow.db"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "true",
        "DVC_SITE_CACHE_DIR": str(_private_folder(scratch) / "dvc"),
    }


def _private_folder(scratch: Path) -> Path:
    """Return a folder that nobody else may enter: below it DVC makes those of its hashes with mode 0777."""
    folder = scratch / "private"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
