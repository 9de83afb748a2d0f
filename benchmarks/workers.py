"""What many workers gain a search, and what the order of its trials costs: python benchmarks/workers.py

A trial of a search is chosen once those `ahead` before it have been told, in the order of their numbers, so that the
outcome does not depend on the workers. Here that is simulated for 1 to 64 workers: the times of trials are drawn from
measured ones (SECONDS), for ahead = 1, the number of workers, and twice as many; and for rounds, where as many trials
as workers start together and all wait for the last. Efficiency is the time of all trials in one process, divided by
the number of workers and by the time of the search; it counts the last trials, when some workers have nothing to do.

With --sleep the search is a real one: driver, journal, MLflow, checkpoint and local processes, which sleep for these
times instead of training. It shows whether the driver keeps up.
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import partial
from heapq import heapreplace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from torch import nn

from flowerml.engine.executors import Place, Pool, Worker, machine_facts, open_pool
from flowerml.engine.fit import Epoch
from flowerml.search.driver import Workers
from flowerml.search.search import SearchStorage, run_search
from flowerml.search.state import weights_to_bytes
from flowerml.search.trainee import Advance
from flowerml.tasks.pipelines import load_pipeline

WORKERS = (1, 2, 4, 8, 16, 32, 64)
# CPU seconds of each trial of `flowerml train flower_data.tar.gz --trials 40 --set train.threads=1` (Oxford 102
# Flowers, 6,552 training pictures, cached features of Lite0, at most 25 epochs; 30 trials were pruned), on one core.
# fmt: off
SECONDS = (
    7.59, 6.67, 6.26, 2.3, 4.59, 2.32, 2.25, 12.27, 6.91, 2.43, 2.69, 2.78, 4.38, 3.39,
    3.6, 6.9, 2.72, 6.54, 5.28, 2.08, 2.31, 7.08, 7.31, 5.74, 2.47, 4.7, 5.85, 2.58,
    2.82, 3.55, 2.3, 4.93, 2.93, 2.53, 2.09, 2.5, 2.84, 7.41, 2.51, 2.72,
)
# fmt: on


def in_order(seconds: Sequence[float], workers: int, ahead: int) -> float:
    """Return the time of a search whose trial n starts when a worker is free and trials 0 to n - ahead are told.

    >>> in_order([3, 1, 1, 1], workers=2, ahead=2)
    4
    >>> in_order([3, 1, 1, 1], workers=2, ahead=4)
    3
    """
    free = [0.0] * workers
    told: list[float] = []  # when each trial is: not before those with lower numbers
    for number, duration in enumerate(seconds):
        asked = told[number - ahead] if number >= ahead else 0.0
        ended = max(asked, free[0]) + duration
        heapreplace(free, ended)
        told.append(max(ended, told[-1]) if told else ended)
    return told[-1]


def in_rounds(seconds: Sequence[float], workers: int) -> float:
    """Return the time of a search in rounds: as many trials as workers start together, when all before have ended.

    >>> in_rounds([3, 1, 1, 1], workers=2)
    4
    """
    return sum(max(seconds[start : start + workers]) for start in range(0, len(seconds), workers))


@dataclass(frozen=True)
class Order:
    """A way to order a search: `time` returns its time from the seconds of its trials and the number of workers."""

    name: str
    time: Callable[[Sequence[float], int], float]


ORDERS = (
    Order("ahead 2 x workers", lambda seconds, workers: in_order(seconds, workers, 2 * workers)),
    Order("ahead = workers", lambda seconds, workers: in_order(seconds, workers, workers)),
    Order("rounds", in_rounds),
    Order("ahead 1", partial(in_order, ahead=1)),
    # What no promise costs: each trial starts as soon as a worker is free, so the outcome depends on the time.
    Order("no order", lambda seconds, workers: in_order(seconds, workers, len(seconds))),
)


def efficiency(order: Order, searches: Sequence[Sequence[float]], workers: int) -> float:
    """Return the mean of the share of all workers' time that is spent in trials."""
    return mean(sum(seconds) / workers / order.time(seconds, workers) for seconds in searches)


def drawn(times: Sequence[float], *, trials: int, draws: int, seed: int = 0) -> list[list[float]]:
    """Return the times of the trials of so many searches, drawn with replacement."""
    generator = random.Random(seed)
    return [generator.choices(times, k=trials) for _ in range(draws)]


def table(efficiencies: dict[tuple[str, int], float], workers: Sequence[int]) -> str:
    """Return efficiency and speed-up of each order as rows of Markdown."""
    names = list(dict.fromkeys(name for name, _ in efficiencies))
    rows = [["workers", *names], ["---:"] * (1 + len(names))]
    for count in workers:
        cells = (f"{efficiencies[name, count]:.2f} ({count * efficiencies[name, count]:.1f} x)" for name in names)
        rows.append([str(count), *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def plot(
    efficiencies: dict[tuple[str, int], float], workers: Sequence[int], slept: dict[int, float], path: Path, title: str
) -> None:
    """Draw the speed-up over the number of workers, and that of real searches."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(workers, workers, color="0.7", linestyle=":", label="ideal")
    for name in dict.fromkeys(name for name, _ in efficiencies):
        axes.plot(workers, [count * efficiencies[name, count] for count in workers], marker="o", ms=4, label=name)
    if slept:
        axes.plot([*slept], [*slept.values()], "kx", label="real driver, ahead 2 x workers")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(workers, [str(count) for count in workers])
    axes.set_yticks(workers, [str(count) for count in workers])
    axes.set_xlabel("workers")
    axes.set_ylabel("speed-up")
    axes.set_title(title, fontsize="medium")
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


class Heads:
    """Networks of the size of a head on Lite0's features for 102 classes."""

    def build(self, section: object) -> tuple[nn.Module, Any]:
        """Return a new head; nobody trains it."""
        return nn.Linear(1280, 102), None


class Sleeper:
    """In place of a worker's `Trainee`: sleeps through epochs; its states and weights are as large as those of a head.

    The metrics are made up; `seconds` are the times of the trials, of which each has `epochs` epochs.
    """

    def __init__(self, seconds: Sequence[float], epochs: int) -> None:
        self._seconds, self._epochs = seconds, epochs
        self._weights = weights_to_bytes(Heads().build(None)[0].state_dict())
        self._state = 4 * self._weights  # with the best ones so far, and two moments of AdamW
        self._number, self._done = 0, 0

    def ready(self) -> None:
        """Reply once the worker has started."""

    def start(self, kind: str, section: dict[str, Any], stop: object, label: str, content: bytes | None) -> int:
        """Begin the trial whose number ends the label."""
        self._number, self._done = int(label.rpartition("-")[2]), 0
        return 0

    def advance(self, seconds: float, want_state: bool) -> Advance:
        """Sleep through as many epochs as a worker trains between two answers."""
        began, first, each = time.monotonic(), self._done, self._seconds[self._number] / self._epochs
        while self._done < self._epochs and (self._done == first or time.monotonic() - began < seconds):
            time.sleep(each)
            self._done += 1
        accuracy = 0.5 + self._number % 97 / 1000
        epochs = tuple(Epoch(number + 1, 1.0, 0.5, 1.0, accuracy, 0.001, each) for number in range(first, self._done))
        ended = self._done == self._epochs
        return Advance(epochs, ended, self._state if want_state and not ended else None)

    def weights(self) -> bytes:
        """Return what stands for the weights of a head."""
        return self._weights


@dataclass
class StartedPool:
    """A pool whose workers have all started, as importing torch is not what is measured here."""

    pool: Pool
    factory: str
    arguments: tuple[Any, ...]

    def __post_init__(self) -> None:
        self.size, self.mixed = self.pool.size, False
        self._workers = [self.pool.start(self.factory, *self.arguments) for _ in range(self.size)]
        for ready in [worker.call("ready") for worker in self._workers]:
            ready.result()

    def start(self, factory: str, *arguments: Any) -> Worker:
        """Return a worker that has started."""
        return self._workers.pop()


@dataclass
class Stopwatch:
    """A display that shows nothing; it notes when the first trial was asked, and when the last one had ended."""

    began: float = 0.0
    seconds: float = 0.0
    busy_before: float = 0.0
    busy: float = 0.0

    @contextmanager
    def __call__(self, plan: object) -> "Iterator[Stopwatch]":
        self.began, self.busy_before = time.perf_counter(), time.process_time()
        yield self

    def epoch(self, trial: object, epoch: object) -> None:
        """Show nothing."""

    def trial(self, trial: object) -> None:
        """Note the time."""
        self.seconds, self.busy = time.perf_counter() - self.began, time.process_time() - self.busy_before


def slept(seconds: Sequence[float], workers: int, ahead: int) -> tuple[float, float]:
    """Return the seconds of a real search by workers that sleep, and the CPU seconds of its driver."""
    search = {"trials": len(seconds), "ahead": ahead, "prune": False}
    section = load_pipeline("flowers").train
    section = section.with_values({"search": {**section.search.model_dump(), **search}})
    display = Stopwatch()
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        open_pool(Place(workers=workers), threads=1, facts=machine_facts()) as pool,
    ):
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        started = StartedPool(pool, "workers:Sleeper", (tuple(seconds), section.epochs))
        run_search(
            section,
            Heads(),
            SearchStorage("sleep", Path("checkpoint"), "key"),
            parameters=lambda trial: {"train.learning_rate": trial.section.learning_rate},
            tags={},
            datasets=[],
            show_progress=display,
            workers=Workers(started, "", ()),
        )
        return display.seconds, display.busy


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--draws", type=int, default=20, help="searches whose efficiency is averaged")
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS))
    parser.add_argument("--sleep", type=float, metavar="SCALE", help="run real searches, a second taking this long")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the speed-up: docs/images/workers.png")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    workers: list[int] = arguments.workers
    searches = drawn(SECONDS, trials=arguments.trials, draws=arguments.draws)
    efficiencies = {
        (order.name, count): efficiency(order, searches, count) for order, count in product(ORDERS, workers)
    }
    print(table(efficiencies, workers))
    speedups: dict[int, float] = {}
    if arguments.sleep:
        print("\nreal searches whose workers sleep, with ahead = 2 x workers")
        print("| workers | seconds | speed-up | efficiency | simulated | CPU of the driver |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        seconds = [arguments.sleep * each for each in searches[0]]
        for count in workers:
            wall, busy = slept(seconds, count, 2 * count)
            expected = efficiency(ORDERS[0], [seconds], count)
            speedup = speedups[count] = sum(seconds) / wall
            cells = (f"{wall:.1f}", f"{speedup:.1f}", f"{speedup / count:.2f}", f"{expected:.2f}", f"{busy / wall:.0%}")
            print(f"| {count} | {' | '.join(cells)} |", flush=True)
    if arguments.plot:
        plot(
            efficiencies, workers, speedups, arguments.plot, f"Searches of {arguments.trials} trials of measured times"
        )


if __name__ == "__main__":
    main()
