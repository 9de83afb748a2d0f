"""Kills every stage of both pipelines at random moments, says the same again, and compares: `make torture`.

What a killed `dvc repro` and its repetition give is compared, byte for byte, with what an uninterrupted one gave. Of an
export, whose model has a number and a time of its own, the classifier in it is. Prints a table; ends with 1 where
anything differs, is left half-written, or seems to be running in MLflow.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tqdm import tqdm

from tests.support.killing import digests, killed, leftovers, runs
from tests.support.project import Project

OUTPUTS = {
    "download": ["data/{0}/archive", "data/{0}/category_names.json", "data/{0}/split_table.csv"],
    "extract": ["data/{0}/examples.parquet", "data/{0}/checks.json"],
    "encode": ["data/{0}/encoded.arrow", "data/{0}/encoder"],
    "train": ["models/{0}/classifier", "reports/{0}/curves.csv", "reports/{0}/search.json"],
    "evaluate": ["reports/{0}"],
    "export": ["models/{0}/mlflow/artifacts"],
}
# Trials of some seconds, so that many kills hit a training in the middle.
LONGER: dict[str, Any] = {
    **{"flowers.train.epochs": 150, "flowers.data.sample_per_class": 20},
    **{"reviews.train.epochs": 6, "reviews.data.sample_per_class": 120, "reviews.train.hidden_dim": 16},
}


@dataclass
class Outcome:
    """What became of the kills of one stage."""

    stage: str
    seconds: float
    kills: int = 0
    in_search: int = 0
    equal: int = 0
    repeated: float = 0.0
    half_written: int = 0
    running: int = 0
    lock_restored: int = 0
    """DVC writes dvc.lock in place: killed in that instant it leaves a damaged one, which a person takes from git."""

    @property
    def well(self) -> bool:
        return self.equal == self.kills and not self.half_written and not self.running


def tortured(project: Project, pipeline: str, stage: str, *, kills: int, seed: int) -> Outcome:
    """Kill a stage so often, each time at another moment, and repeat it."""
    names = [name.format(pipeline) for name in OUTPUTS[stage]]
    line = ["dvc", "repro", "--force", "--single-item", f"{stage}@{pipeline}"]
    before = time.monotonic()
    project.run(*line)
    outcome = Outcome(f"{stage}@{pipeline}", time.monotonic() - before)
    expected, chance = digests(project.folder, *names), random.Random(f"{seed} {outcome.stage}")
    for _ in tqdm(range(kills), desc=outcome.stage, unit="kill"):
        with _gone(project, names if stage == "encode" else []):
            moment = chance.uniform(0, 0.9 * outcome.seconds)
            lock = (project.folder / "dvc.lock").read_bytes()
            if not _killed(project, line, moment):
                continue
        outcome.lock_restored += _restored(project.folder / "dvc.lock", lock)
        checkpoint = project.folder / f"data/{pipeline}/checkpoint"
        outcome.in_search += checkpoint.exists()
        before = time.monotonic()
        project.run(*line)
        outcome.repeated += time.monotonic() - before
        outcome.kills += 1
        outcome.equal += digests(project.folder, *names) == expected
        outcome.half_written += bool(leftovers(project.folder)) or checkpoint.exists()
        outcome.running += sum(run["status"] == "RUNNING" for run in runs(project))
    return outcome


def _killed(project: Project, line: list[str], moment: float) -> bool:
    try:
        killed(project, line, lambda now: now >= moment)
    except AssertionError:  # the machine has become faster, and the command had ended
        return False
    return True


def _restored(path: Path, former: bytes) -> bool:
    """Whether the lock file was damaged; it is the former one then."""
    try:
        whole = yaml.safe_load(path.read_text(encoding="utf-8"))
        damaged = not isinstance(whole, dict) or set(whole) != {"schema", "stages"}
    except (OSError, ValueError, yaml.YAMLError):
        damaged = True
    if damaged:
        path.write_bytes(former)
    return damaged


@contextmanager
def _gone(project: Project, names: list[str]) -> Iterator[None]:
    """Without these outputs, which a stage would take over from itself."""
    for name in names:
        path = project.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    yield


def main() -> None:
    """Kill, repeat, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="of each stage")
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
            outcomes.append(tortured(project, pipeline, stage, kills=arguments.kills, seed=arguments.seed))
            print(outcomes[-1], flush=True)
    print(pd.DataFrame(outcomes).to_string(index=False, float_format="{:.1f}".format))
    sys.exit(not all(outcome.well for outcome in outcomes))


if __name__ == "__main__":
    main()
