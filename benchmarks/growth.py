"""Measure how the cost of each stage grows with the work: python benchmarks/growth.py [--stages NAME …]

Each measurement is a process of its own. It counts the CPU seconds (user and system, of its threads and children), the
peak of its memory (resident pages that belong to no file, sampled every 10 ms) and the bytes that it writes.

The stages from download to export run on the samples that flowerml draws and composes, in an archive of this machine.
What they cost on very few examples (imports, a first call) is measured too, and subtracted. `search/trials` is a
training with more trials on the same few texts; ask, checkpoint and journal are the parts of it that remember all
trials, on trials with made-up epochs. The checks of many rows get signatures and vectors made of random numbers, with
copies and wrong labels among them, since above 100,000 rows they compare what is likely instead of all pairs.

The exponent of a column is the slope of the least-squares line through the logarithms: 1 is a cost that grows as the
work does. The bar is 1.1. Columns that hardly change have none.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from growth_stages import STAGES

from flowerml.tracking import database, lineage

BAR = 1.1
SAMPLED_EVERY = 0.01  # seconds between two looks at the memory
HARDLY = {"seconds": 0.1, "peak_bytes": 8e6, "written_bytes": 1e5}  # differences too small for an exponent


@dataclass(frozen=True)
class Cost:
    """The cost of one measurement."""

    items: int
    seconds: float
    peak_bytes: float
    written_bytes: float


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Sample the memory while the block runs; the list's one number is its peak above that at the start, in bytes."""
    peak, done = [0.0], threading.Event()
    start = anonymous_bytes()

    def sample() -> None:
        while not done.wait(SAMPLED_EVERY):
            peak[0] = max(peak[0], anonymous_bytes() - start)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def anonymous_bytes() -> float:
    """Return the resident bytes of this process that belong to no file."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * float(status.partition("RssAnon:")[2].split()[0])


def cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def written_bytes() -> float:
    return float(Path("/proc/self/io").read_text(encoding="ascii").partition("wchar:")[2].split()[0])


def measure_here(name: str, items: int, folder: Path) -> Cost:
    """Measure one stage in this process."""
    work = STAGES[name].prepare(items, folder)
    seconds, written = cpu_seconds(), written_bytes()
    with peak_memory() as peak:
        work()
    return Cost(items, cpu_seconds() - seconds, peak[0], written_bytes() - written)


def measure(name: str, items: int, folder: Path) -> Cost:
    """Measure one stage in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    answer = folder / "cost.json"  # not on stdout, where a stage may print
    command = [sys.executable, __file__, "--one", name, str(items), str(folder), str(answer)]
    variables = {"MLFLOW_TRACKING_URI": database.sqlite_uri(folder / "mlflow.db"), "TQDM_DISABLE": "1"}
    done = subprocess.run(command, env={**os.environ, **variables}, cwd=folder, capture_output=True)
    if done.returncode:
        sys.exit(f"error: {name} of {items:,} failed:\n{done.stderr.decode(errors='replace')}")
    return Cost(**json.loads(answer.read_text(encoding="utf-8")))


def measure_all(names: list[str], scales: list[float], share: float, folder: Path) -> dict[str, list[Cost]]:
    """Measure stages at all scales; the first cost of each is the one to subtract."""
    costs: dict[str, list[Cost]] = {}
    for name in with_steps_before(names):
        stage = STAGES[name]
        counts = [round(stage.size * share * scale) for scale in scales]
        costs[name] = [] if stage.small else [Cost(0, 0.0, 0.0, 0.0)]
        for items in [stage.small, *counts] if stage.small else counts:
            place = folder / (name if name.startswith("search") else Path(name).parent) / str(items)
            costs[name].append(measure(name, items, place))
            print(f"{name}: {items:,} {stage.unit}, {costs[name][-1].seconds:.1f} s", file=sys.stderr)
    return {name: costs[name] for name in names}


def with_steps_before(names: list[str]) -> list[str]:
    """Return the stages in order, with the steps of a pipeline that must run before one of them."""
    last = {name.partition("/")[0]: number for number, name in enumerate(STAGES) if name in names}
    return [
        name
        for number, name in enumerate(STAGES)
        if name in names or (name.startswith(("pictures/", "texts/")) and number < last.get(name.partition("/")[0], -1))
    ]


def above_first(costs: list[Cost], column: str) -> list[tuple[int, float]]:
    """Return the items and the cost of each measurement but the first, above those of the first."""
    first = costs[0]
    return [(cost.items - first.items, getattr(cost, column) - getattr(first, column)) for cost in costs[1:]]


def exponent(costs: list[Cost], column: str) -> float | None:
    """Return the exponent of a column; None where it hardly changes.

    >>> exponent([Cost(0, 0, 0, 0), Cost(10, 1, 0, 0), Cost(40, 16, 0, 0)], "seconds")
    2.0
    """
    items, values = np.array(above_first(costs, column), dtype=float).T
    if len(items) < 2 or values.min() <= 0 or values.max() - values.min() < HARDLY[column]:
        return None
    return round(float(np.polyfit(np.log(items), np.log(values), 1)[0]), 2)


def table(costs: dict[str, list[Cost]]) -> str:
    """Return a row for each stage, in Markdown: its costs at each scale, and the exponents."""
    lines = [
        "| stage | items | CPU seconds | exponent | peak memory, MB | exponent | written, MB | exponent |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, measured in costs.items():
        cells = [name, f"{' / '.join(f'{cost.items:,}' for cost in measured[1:])} {STAGES[name].unit}"]
        for column, unit, digits in (("seconds", 1, 2), ("peak_bytes", 1e6, 0), ("written_bytes", 1e6, 2)):
            cells.append(" / ".join(f"{value / unit:,.{digits}f}" for _, value in above_first(measured, column)))
            slope = exponent(measured, column)
            cells.append("-" if slope is None else f"{slope:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(costs: dict[str, list[Cost]]) -> str:
    """Return a line for each cost that grows faster than the bar allows, and one about all."""
    columns = [field.name for field in fields(Cost)][1:]
    slopes = {(name, column): exponent(costs[name], column) for name in costs for column in columns}
    lines = [
        f"{name}: {column} grow with exponent {slope:.2f}, more than {BAR}"
        for (name, column), slope in slopes.items()
        if slope is not None and slope > BAR
    ]
    known = sum(slope is not None for slope in slopes.values())
    return "\n".join([*lines, f"{known - len(lines)} of {known} exponents are at most {BAR}"])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=[*STAGES], default=[*STAGES], metavar="NAME")
    parser.add_argument("--scales", nargs="+", type=float, default=[1, 4, 16])
    parser.add_argument("--share", type=float, default=1.0, help="of the items at scale 1, for a quick look")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)  # the process of one measurement
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.one:
        name, items, folder, answer = arguments.one
        cost = measure_here(name, int(items), Path(folder))
        Path(answer).write_text(json.dumps(asdict(cost)), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        costs = measure_all(arguments.stages, arguments.scales, arguments.share, Path(folder).resolve())
    print(f"{table(costs)}\n\n{verdict(costs)}")
    if arguments.json:
        about = {**lineage.environment(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        measured = {name: [asdict(cost) for cost in part] for name, part in costs.items()}
        result = {"about": about, "arguments": vars(arguments), "costs": measured}
        arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
