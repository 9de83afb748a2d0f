"""What many workers gain a search, and what the order of its trials costs: python benchmarks/workers.py

A trial of a search is chosen once those `ahead` before it have been told, in the order of their numbers, so that the
outcome does not depend on the workers. Here that is simulated for 1 to 64 workers: the times of trials are drawn from
measured ones (SECONDS), for ahead = 1, the number of workers, and twice as many; and for rounds, where as many trials
as workers start together and all wait for the last. Efficiency is the time of all trials in one process, divided by
the number of workers and by the time of the search; it counts the last trials, when some workers have nothing to do.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heapreplace
from itertools import product
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

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


def plot(efficiencies: dict[tuple[str, int], float], workers: Sequence[int], path: Path, title: str) -> None:
    """Draw the speed-up over the number of workers."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(workers, workers, color="0.7", linestyle=":", label="ideal")
    for name in dict.fromkeys(name for name, _ in efficiencies):
        axes.plot(workers, [count * efficiencies[name, count] for count in workers], marker="o", ms=4, label=name)
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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--draws", type=int, default=20, help="searches whose efficiency is averaged")
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS))
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the speed-up, such as into docs/workers.png")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    workers: list[int] = arguments.workers
    searches = drawn(SECONDS, trials=arguments.trials, draws=arguments.draws)
    efficiencies = {
        (order.name, count): efficiency(order, searches, count) for order, count in product(ORDERS, workers)
    }
    print(table(efficiencies, workers))
    if arguments.plot:
        plot(efficiencies, workers, arguments.plot, f"Searches of {arguments.trials} trials, simulated")


if __name__ == "__main__":
    main()
