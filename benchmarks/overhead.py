"""What local workers cost a real search: python benchmarks/overhead.py DATA [OPTION…]

Runs `flowerml train DATA OPTION…` with one worker (in process) and with two, of one thread each, and in process with
two threads; always with train.search.ahead = 4, so that all search the same. A first run keeps the encodings; only
searches are compared, by the times of their run in MLflow. Overhead is what two workers take beyond half of the time
of one. Each is run --rounds times, in turns, and the fastest counts.

    python benchmarks/overhead.py flower_data.tar.gz --trials 12 --category-names cat_to_name.json
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient


@dataclass(frozen=True)
class Setting:
    """Workers and threads of each."""

    workers: int
    threads: int


@dataclass(frozen=True)
class Timed:
    """Seconds of a search, those of the whole command, and the trials without their times."""

    search: float
    command: float
    trials: list[dict[str, str]]


SETTINGS = (Setting(1, 1), Setting(2, 1), Setting(1, 2))


def train(folder: Path, options: list[str], setting: Setting) -> Timed:
    """Run the command in a folder; return what it took."""
    changes = {"train.threads": setting.threads, "train.search.ahead": 4}
    command = [sys.executable, "-m", "flowerml", "train", *options]
    command += [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    began = time.perf_counter()
    subprocess.run(
        command,
        cwd=folder,
        env={**environment, "FLOWERML_WORKERS": str(setting.workers)},
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - began
    (table,) = folder.glob(".flowerml/reports/*/trials.csv")
    with table.open(encoding="utf-8", newline="") as file:
        trials = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return Timed(_seconds_of_search(folder), seconds, trials)


def _seconds_of_search(folder: Path) -> float:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    last = client.search_runs(
        experiments, "tags.mlflow.runName = 'search'", order_by=["attributes.start_time DESC"], max_results=1
    )[0]
    return (last.info.end_time - last.info.start_time) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep encodings and runs here, for the next time")
    arguments, rest = parser.parse_known_args()
    # The command runs in another folder.
    options = [str(Path(part).resolve()) if Path(part).exists() else part for part in (str(arguments.data), *rest)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        train(folder, options, SETTINGS[0])
        times: dict[Setting, list[Timed]] = {setting: [] for setting in SETTINGS}
        for _ in range(arguments.rounds):
            for setting in SETTINGS:
                times[setting].append(train(folder, options, setting))
    print("| workers | threads | search, s | command, s | share of half of one worker's |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    best = {setting: min(each.search for each in timed) for setting, timed in times.items()}
    half = best[SETTINGS[0]] / 2
    for setting, seconds in best.items():
        command = min(each.command for each in times[setting])
        print(f"| {setting.workers} | {setting.threads} | {seconds:.1f} | {command:.1f} | {seconds / half:.2f} |")
    same = all(each.trials == times[SETTINGS[0]][0].trials for each in (*times[SETTINGS[0]], *times[SETTINGS[1]]))
    print("one and two workers: the same trials" if same else "one and two workers: OTHER TRIALS")
    sys.exit(not same)


if __name__ == "__main__":
    main()
