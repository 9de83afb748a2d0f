"""Commands that are killed on their way, and what they leave behind."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.project import Project

LONGEST = 240.0


def command(stage: str, pipeline: str) -> list[str]:
    """The command of a stage, as dvc.yaml has it."""
    return [sys.executable, "-m", f"stages.{stage}", pipeline]


def started(project: Project, line: list[str], **changes: str) -> "subprocess.Popen[str]":
    """The command, started in a process group of its own."""
    return subprocess.Popen(
        line,
        cwd=project.folder,
        env={**project.environment(), **changes},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def killed(project: Project, line: list[str], when: Callable[[float], bool], number: int = signal.SIGKILL) -> str:
    """Send the command and all its children a signal when `when(seconds since its start)`; what it had printed.

    Whether it was still at work then: an end that came before is an AssertionError.
    """
    process = started(project, line)
    begin = time.monotonic()
    while not when(time.monotonic() - begin):
        assert process.poll() is None, f"it ended before it could be killed:\n{process.communicate()[0]}"
        assert time.monotonic() - begin < LONGEST, f"{line}: nothing to kill it at in {LONGEST} s"
        time.sleep(0.001)
    os.killpg(process.pid, number)
    output = process.communicate()[0]
    assert process.returncode != 0, f"it had ended well already:\n{output}"
    return output


def written(folder: Path, pattern: str) -> Callable[[float], bool]:
    """Whether something that is not empty matches the pattern in the folder."""

    def found(_: float) -> bool:
        try:
            return any(path.is_dir() or path.stat().st_size for path in folder.glob(pattern))
        except FileNotFoundError:
            return False

    return found


def changed(path: Path) -> Callable[[float], bool]:
    """Whether the file is another than now."""
    before = path.stat().st_ino

    def other(_: float) -> bool:
        return path.exists() and path.stat().st_ino != before

    return other


def after(condition: Callable[[float], bool], seconds: float) -> Callable[[float], bool]:
    """So many seconds after the condition was true for the first time."""
    since: list[float] = []

    def later(now: float) -> bool:
        if not since and condition(now):
            since.append(now)
        return bool(since) and now - since[0] >= seconds

    return later


def digests(folder: Path, *names: str) -> dict[str, str]:
    """The SHA-256 of files, and of those in folders, by their paths below `folder`."""
    paths = [path for name in names for path in sorted([folder / name, *(folder / name).rglob("*")]) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def leftovers(folder: Path) -> list[str]:
    """What is only there while something else is being made."""
    found = [*folder.glob("data/**/.*.tmp"), *folder.glob("models/**/.*.tmp"), *folder.glob("reports/**/.*.tmp")]
    return [str(path.relative_to(folder)) for path in found]


def runs(project: Project) -> list[dict[str, object]]:
    """Each run's name, status and the steps of its validation accuracy, oldest first, of all experiments."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [
        {
            "name": run.info.run_name,
            "status": run.info.status,
            "steps": sorted(one.step for one in client.get_metric_history(run.info.run_id, "valid_accuracy")),
        }
        for run in client.search_runs(experiments, order_by=["attributes.start_time ASC"])
    ]
