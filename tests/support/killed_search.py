"""Kills workers and drivers of a search at random moments, and compares its outcome with that of one left alone.

`python -m tests.support.killed_search --kills 20 --drivers 5` trains heads on the embedded flowers: once in one
process, then in workers that are killed (SIGKILL), by a driver that is killed and started again. Exits with 1 where
trials, weights or MLflow's runs differ, or where a process outlives its driver. Linux only, as it reads /proc.
"""

import argparse
import csv
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.support.recorded_runs import key_of

SPACE = "{learning_rate: {low: 0.0001, high: 0.03, log: true}, dropout: [0.2, 0.4, 0.6], hidden_units: [[], [16]]}"
SETTINGS = {
    "data.sample_per_class": 24,
    "train.threads": 1,
    "train.ensemble": 2,
    "train.repeats": 2,
    "train.refit": True,
    "train.search.ahead": 4,
    "train.search.space": SPACE,
}
SECONDS_TO_END = 60.0  # for all processes, once their driver was killed
LOST_TOO_OFTEN = "its worker was lost"


@dataclass
class Killed:
    """What was killed, how often the search was begun again, and what went wrong."""

    workers: int = 0
    drivers: int = 0
    attempts: int = 0
    gave_up: int = 0
    """A training whose worker is lost three times ends the command, with advice; it is begun again here."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Training:
    """The command, in a folder with a database of its own."""

    folder: Path
    trials: int
    epochs: int

    def start(self, **variables: str) -> "subprocess.Popen[str]":
        """Start it in a session of its own, by which its processes are found."""
        options = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
        sizes = ["--trials", str(self.trials), "--epochs", str(self.epochs)]
        unset = ("MLFLOW_TRACKING_URI", "FLOWERML_ENGINE", "FLOWERML_WORKERS")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        with (self.folder / "output.log").open("a") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "flowerml", "train", "sample", "--kind", "image", *sizes, *options],
                cwd=self.folder,
                env={
                    **environment,
                    "PYTHONPATH": str(Path(__file__).parents[2]),
                    "FLOWERML_LOG_SECONDS": "0",
                    **variables,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )

    def output(self) -> str:
        """Return what it has printed, in all attempts."""
        return (self.folder / "output.log").read_text(encoding="utf-8")

    def epochs_seen(self) -> int:
        """Return how many epochs it has reported, in all attempts."""
        return self.output().count(", epoch ")

    def outcome(self) -> dict[str, Any]:
        """Return the trials, the digests of what was saved, and MLflow's runs, all without times."""
        reports = self.folder / ".flowerml/reports/sample"
        tables = {name: _rows(reports / name) for name in ("trials.csv", "curves.csv")}
        saved = [path for path in sorted(self.folder.glob("models/**/*")) if path.suffix in (".onnx", ".safetensors")]
        assert saved, "a classifier was saved"
        digests = {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in saved}
        return {**tables, "saved": digests, "runs": recorded(self.folder)}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def recorded(folder: Path) -> list[dict[str, Any]]:
    """Return the runs in a folder's database, ordered by name: those that are there twice are twice."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = [
        {
            "name": key_of(run),
            "status": run.info.status,
            "metrics": {
                name: value
                for name, value in run.data.metrics.items()
                if "seconds" not in name and "megabytes" not in name and "per_second" not in name
            },
            "epochs": sorted(
                {row.step: row.value for row in client.get_metric_history(run.info.run_id, "train_loss")}.items()
            ),
        }
        for run in client.search_runs(experiments, max_results=1000)
    ]
    return sorted(runs, key=lambda run: run["name"])


def processes(session: int) -> dict[int, tuple[int, str]]:
    """Return parent and command line of the living processes of a session."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found[int(path.name)] = int(fields[1]), (path / "cmdline").read_text()
    return found


def workers(session: int) -> list[int]:
    """Return the worker processes of a session: the children of the one they are forked from."""
    alive = processes(session)
    servers = {
        process for process, (_, line) in alive.items() if "fork_server" in line and alive[process][0] == session
    }
    return sorted(process for process, (parent, _) in alive.items() if parent in servers)


def killed_search(training: Training, *, kills: int, drivers: int, count: int, every: int, seed: int) -> Killed:
    """Run a search in `count` workers to its end, and on the way kill workers and drivers, each after some epochs.

    Epochs and not seconds, so that the search gets on between two kills also on a busy machine.
    """
    generator, killed = random.Random(seed), Killed()
    events = ["worker"] * kills + ["driver"] * drivers
    generator.shuffle(events)
    while True:
        killed.attempts += 1
        process = training.start(FLOWERML_WORKERS=str(count))
        due = training.epochs_seen() + generator.randint(1, 2 * every)
        while process.poll() is None:
            time.sleep(0.01)
            if not events or training.epochs_seen() < due or not (alive := workers(process.pid)):
                continue
            event = events.pop()
            _kill(process.pid if event == "driver" else generator.choice(alive))
            killed.workers += event == "worker"
            killed.drivers += event == "driver"
            due = training.epochs_seen() + generator.randint(1, 2 * every)
            if event == "driver":
                process.wait()
        ended = time.monotonic()
        while (left := processes(process.pid)) and time.monotonic() < ended + SECONDS_TO_END:
            time.sleep(0.02)
        if left:
            killed.faults.append(f"processes outlived their driver: {left}")
        if process.returncode == 0:
            return killed
        if process.returncode != -signal.SIGKILL:
            if LOST_TOO_OFTEN not in training.output().splitlines()[-1]:
                killed.faults.append(f"exit code {process.returncode}: {training.output()[-2000:]}")
                return killed
            killed.gave_up += 1


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def compared(
    folder: Path, *, kills: int, drivers: int, count: int, every: int, seed: int, trials: int, epochs: int
) -> Killed:
    """Search in one process, and again with kills; return these with all differences as faults."""
    alone, disturbed = (Training(folder / name, trials, epochs) for name in ("alone", "disturbed"))
    alone.folder.mkdir()
    process = alone.start()
    assert process.wait() == 0, alone.output()
    shutil.copytree(alone.folder / ".flowerml/data", disturbed.folder / ".flowerml/data", symlinks=True)
    for path in disturbed.folder.glob(".flowerml/data/*/checkpoint"):
        shutil.rmtree(path)
    killed = killed_search(disturbed, kills=kills, drivers=drivers, count=count, every=every, seed=seed)
    if not killed.faults:
        expected, outcome = alone.outcome(), disturbed.outcome()
        killed.faults += [
            f"{name} differ: expected {expected[name]}, found {outcome[name]}"
            for name in expected
            if outcome[name] != expected[name]
        ]
    return killed


def main() -> None:
    """Search, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of workers")
    parser.add_argument("--drivers", type=int, default=5, help="kills of the driver")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=40, help="epochs between two kills, on average")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep everything in this new folder")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="killed-") as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        killed = compared(
            folder,
            kills=arguments.kills,
            drivers=arguments.drivers,
            count=arguments.workers,
            every=arguments.every,
            seed=arguments.seed,
            trials=arguments.trials,
            epochs=arguments.epochs,
        )
    print(killed)
    sys.exit(bool(killed.faults))


if __name__ == "__main__":
    main()
