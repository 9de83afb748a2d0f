"""Kills every stage of both pipelines at random moments, re-runs it and compares the results: `make torture`.

What a killed `dvc repro` and its re-run produce is compared, byte for byte, with what an uninterrupted one produced. Of
an export only the classifier is, as its model has a number and a time of its own. Prints a table; exits with 1 where
anything differs, is left half-written, or is still RUNNING in MLflow.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tqdm import tqdm

from tests.support.killing import digests, is_finished, kill_when, recorded_runs, temporary_files
from tests.support.project import Project

OUTPUTS = {
    "download": ["data/{0}/archive", "data/{0}/category_names.json", "data/{0}/split_table.csv"],
    "extract": ["data/{0}/examples.parquet", "data/{0}/checks.json"],
    "encode": ["data/{0}/encoded.arrow", "data/{0}/encoder"],
    "train": ["models/{0}/classifier", "reports/{0}/curves.csv", "reports/{0}/search.json"],
    "evaluate": ["reports/{0}"],
    "export": ["models/{0}/mlflow/artifacts"],
}
# Trials of some seconds, so that many kills interrupt a training.
LONGER: dict[str, Any] = {
    "flowers.train.epochs": 150,
    "flowers.data.sample_per_class": 20,
    "reviews.train.epochs": 6,
    "reviews.data.sample_per_class": 120,
    "reviews.train.hidden_dim": 16,
}


@dataclass
class Outcome:
    """The results of killing one stage."""

    stage: str
    seconds: float
    kills: int = 0
    in_search: int = 0
    equal: int = 0
    rerun_seconds: float = 0.0
    half_written: int = 0
    running: int = 0
    lock_restored: int = 0
    """DVC writes dvc.lock in place: a kill in that instant damages it, and a person restores it from git."""

    @property
    def passed(self) -> bool:
        """Return whether every re-run gave equal outputs and left nothing behind."""
        return self.equal == self.kills and not self.half_written and not self.running


def torture(project: Project, pipeline: str, stage: str, *, kills: int, seed: int) -> Outcome:
    """Kill a stage `kills` times, each time at a random moment, and re-run it."""
    names = [name.format(pipeline) for name in OUTPUTS[stage]]
    command = ["dvc", "repro", "--force", "--single-item", f"{stage}@{pipeline}"]
    before = time.monotonic()
    project.run(*command)
    outcome = Outcome(f"{stage}@{pipeline}", time.monotonic() - before)
    expected, generator = digests(project.folder, *names), random.Random(f"{seed} {outcome.stage}")
    for _ in tqdm(range(kills), desc=outcome.stage, unit="kill"):
        if stage == "encode":  # it would reuse the encodings of its previous run
            _remove(project, names)
        moment = generator.uniform(0, 0.9 * outcome.seconds)
        lock = (project.folder / "dvc.lock").read_bytes()
        if not _kill(project, command, moment):
            continue
        outcome.lock_restored += _restore_lock(project.folder / "dvc.lock", lock)
        checkpoint = project.folder / f"data/{pipeline}/checkpoint"
        outcome.in_search += checkpoint.exists() and not is_finished(checkpoint)
        before = time.monotonic()
        project.run(*command)
        outcome.rerun_seconds += time.monotonic() - before
        outcome.kills += 1
        outcome.equal += digests(project.folder, *names) == expected
        left = temporary_files(project.folder), checkpoint.exists() and not is_finished(checkpoint)
        outcome.half_written += any(left)
        outcome.running += sum(run["status"] == "RUNNING" for run in recorded_runs(project))
    return outcome


def _kill(project: Project, command: list[str], moment: float) -> bool:
    try:
        kill_when(project, command, lambda now: now >= moment)
    except AssertionError:  # it ended first, as the machine is faster than before
        return False
    return True


def _restore_lock(path: Path, former: bytes) -> bool:
    """Restore the lock file if it is damaged; return whether it was."""
    try:
        lock = yaml.safe_load(path.read_text(encoding="utf-8"))
        damaged = not isinstance(lock, dict) or set(lock) != {"schema", "stages"}
    except (OSError, ValueError, yaml.YAMLError):
        damaged = True
    if damaged:
        path.write_bytes(former)
    return damaged


def _remove(project: Project, names: list[str]) -> None:
    for name in names:
        path = project.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def main() -> None:
    """Kill, re-run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="per stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--stages", nargs="*", default=[f"{stage}@{name}" for name in ("flowers", "reviews") for stage in OUTPUTS]
    )
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        project = Project(Path(folder))
        project.set(LONGER)
        project.run("dvc", "repro")
        outcomes = []
        for name in arguments.stages:
            stage, _, pipeline = name.partition("@")
            outcomes.append(torture(project, pipeline, stage, kills=arguments.kills, seed=arguments.seed))
            print(outcomes[-1], flush=True)
    print(pd.DataFrame(outcomes).to_string(index=False, float_format="{:.1f}".format))
    sys.exit(not all(outcome.passed for outcome in outcomes))


if __name__ == "__main__":
    main()
