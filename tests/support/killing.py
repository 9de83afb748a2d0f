"""Commands that are killed half-way, and what they leave behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flowerml.search.checkpoint import RECORDS, STATE
from tests.support.project import Project
from tests.support.recorded_runs import key_of

TIMEOUT = 240.0  # seconds
Condition = Callable[[float], bool]
"""Whether to kill a command now, from the seconds since its start."""


def stage_command(stage: str, pipeline: str) -> list[str]:
    """Return the command of a stage, as dvc.yaml has it."""
    return [sys.executable, "-m", f"stages.{stage}", pipeline]


def start(project: Project, command: list[str]) -> "subprocess.Popen[str]":
    """Start a command in a process group of its own, which Ctrl-C reaches also if the tests run in the background."""
    return subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job inherits that it is ignored
    )


def kill_when(project: Project, command: list[str], condition: Condition, number: int = signal.SIGKILL) -> str:
    """Send a command and its children a signal when the condition holds; return the output.

    Raises AssertionError if the command ended before that.
    """
    process = start(project, command)
    begin = time.monotonic()
    while not condition(time.monotonic() - begin):
        assert process.poll() is None, f"it ended before it could be killed:\n{process.communicate()[0]}"
        assert time.monotonic() - begin < TIMEOUT, f"{command}: nothing to kill it at in {TIMEOUT} s"
        time.sleep(0.001)
    os.killpg(process.pid, number)
    output = process.communicate()[0]
    assert process.returncode != 0, f"it had already succeeded:\n{output}"
    return output


def file_written(folder: Path, pattern: str) -> Condition:
    """Return the condition that a folder or a file with content matches the pattern."""

    def condition(_: float) -> bool:
        try:
            return any(path.is_dir() or path.stat().st_size for path in folder.glob(pattern))
        except FileNotFoundError:
            return False

    return condition


def file_replaced(folder: Path, pattern: str) -> Condition:
    """Return the condition that another file than now matches the pattern."""
    before = {path.stat().st_ino for path in folder.glob(pattern)}

    def condition(_: float) -> bool:
        try:
            return any(path.stat().st_ino not in before for path in folder.glob(pattern))
        except FileNotFoundError:
            return False

    return condition


def delayed(condition: Condition, seconds: float) -> Condition:
    """Return the condition that so many seconds have passed since another first held."""
    since: list[float] = []

    def later(now: float) -> bool:
        if not since and condition(now):
            since.append(now)
        return bool(since) and now - since[0] >= seconds

    return later


def digests(folder: Path, *names: str) -> dict[str, str]:
    """Return the SHA-256 of files, and of those in folders, by their paths below `folder`."""
    paths = [path for name in names for path in sorted([folder / name, *(folder / name).rglob("*")]) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def temporary_files(folder: Path) -> list[str]:
    """Return the half-written files and folders, which exist only while a command is writing."""
    paths = [path for top in ("data", "models", "reports") for path in folder.glob(f"{top}/**/.*.tmp")]
    return [str(path.relative_to(folder)) for path in paths]


def is_finished(checkpoint: Path) -> bool:
    """Return whether a checkpoint is that of a finished search: records and weights, and no training in flight."""
    try:
        *_, last = (checkpoint / RECORDS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return "finished" in json.loads(last) and not [*checkpoint.glob(f"{STATE}*"), *checkpoint.glob(".*")]


def recorded_runs(project: Project) -> list[dict[str, object]]:
    """Return each run's name, status and the steps of its validation accuracy, of all experiments, oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [
        {
            "name": key_of(run),
            "status": run.info.status,
            "steps": sorted(row.step for row in client.get_metric_history(run.info.run_id, "valid_accuracy")),
        }
        for run in client.search_runs(experiments, order_by=["attributes.start_time ASC"])
    ]
