"""Time a served model beside its peers: python benchmarks/serve.py PIPELINE|MODEL [--seconds 3] [--rounds 3] [--json]

Compares, with the same classifier and the model's input example: `Classifier.predict` in threads of a process of its
own; `mlflow models serve`; `flowerml serve` with raw bodies, with JSON and through MLflow's entrance; LitServe and,
with --bentoml, BentoML with a worker for each core, both with raw bodies and JSON; and an application that answers at
once. MODEL is an exported folder, PIPELINE stands for models/PIPELINE/mlflow.

All servers run all the time, one is measured at a time, and each number is the median of interleaved rounds: so that a
busy minute of the machine meets all alike. The clients share the machine's cores. Each sends its next request when it
has its answer, and after 429 waits as told; only answers count. "a third hostile": every third request is one that no
classifier can answer (cut short, of another kind, a picture of 400 megapixels, broken JSON), and only the good ones are
timed. CPU is that of all processes of a server for each answer, memory the highest after a measurement.

Exit code 1 where a bar does not hold.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import load
import numpy as np
from rich.console import Console
from rich.table import Table
from servers import Model, Running, running, servers

from flowerml import Classifier

CLIENTS = (1, 8, 32, 128)
HOSTILE_CLIENTS = 32
WARM_UP_SECONDS = 1.0
BARE = "Classifier.predict"
TOLERANCE = 0.03  # where a server must not be slower than another: the spread of a median of three rounds
NAMES = ("mlflow", "flowerml", "litserve raw", "litserve json", "empty", "bentoml")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measurement: answers a second, latencies and CPU in ms, memory in MB, and the clients' own share of a core.

    `refused` counts 429 and 503 for each answer, `failed` other statuses than 200 for a good request.
    """

    what: str
    clients: int
    hostile: bool
    a_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: float
    memory_mb: float
    refused: float
    failed: int
    own_cpu: float


Key = tuple[str, int, bool]


def of_answers(key: Key, answers: load.Answers, *, cpu: float, memory: float) -> Row:
    """Return the row of a measurement, NaN where nothing was answered."""
    count = len(answers.latencies)
    p50, p95, p99 = (
        (float(1000 * value) for value in np.quantile(answers.latencies, (0.5, 0.95, 0.99))) if count else [np.nan] * 3
    )
    refused = answers.good[429] + answers.good[503]
    return Row(
        what=key[0],
        clients=key[1],
        hostile=key[2],
        a_second=count / answers.seconds,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        cpu_ms=1000 * cpu / count if count else np.nan,
        memory_mb=memory,
        refused=refused / max(count, 1),
        failed=answers.good.total() - refused - answers.good[200],
        own_cpu=answers.own_cpu,
    )


def median_row(rows: list[Row]) -> Row:
    """Return the median of each number; of memory and of failures the highest."""
    values = {
        name: (max if name in ("memory_mb", "failed") else median)([getattr(row, name) for row in rows])
        for name, value in asdict(rows[0]).items()
        if not isinstance(value, str | bool) and name != "clients"
    }
    return Row(what=rows[0].what, clients=rows[0].clients, hostile=rows[0].hostile, **values)


_classifier: Classifier | None = None


def in_threads(model: Model, clients: int, seconds: float) -> tuple[load.Answers, float, float]:
    """Call `Classifier.predict` from `clients` threads without pause; return answers, CPU seconds and memory in MB."""
    import psutil

    global _classifier
    _classifier = _classifier or Classifier.load(model.classifier)
    classifier, answers = _classifier, load.Answers()
    started, cpu = time.perf_counter(), time.process_time()

    def work() -> None:
        while (before := time.perf_counter()) < started + seconds:
            classifier.predict([model.raw])
            answers.latencies.append(time.perf_counter() - before)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.seconds = time.perf_counter() - started
    answers.good[200] = len(answers.latencies)
    return answers, time.process_time() - cpu, psutil.Process().memory_full_info().pss / 1e6


def bare_row(pool: ProcessPoolExecutor, model: Model, clients: int, seconds: float) -> Row:
    """Measure the classifier alone."""
    pool.submit(in_threads, model, clients, seconds / 4).result()
    answers, cpu, memory = pool.submit(in_threads, model, clients, seconds).result()
    return of_answers((BARE, clients, False), answers, cpu=cpu, memory=memory)


def server_row(pool: ProcessPoolExecutor, server: Running, number: int, key: Key, seconds: float) -> Row:
    """Measure a door of a server."""
    door = server.server.doors[number]
    measured = load.Load(
        port=server.port,
        good=[door.good],
        hostile=door.hostile if key[2] else (),
        clients=key[1],
        seconds=seconds,
        warm_up=min(WARM_UP_SECONDS, seconds),
        process=server.process.pid,
    )
    answers = pool.submit(load.run, measured).result()
    return of_answers(key, answers, cpu=answers.server_cpu, memory=server.memory())


def check(pool: ProcessPoolExecutor, server: Running) -> None:
    """Exit where a good request is not answered, at any door."""
    for door in server.server.doors:
        answers = pool.submit(
            load.run, load.Load(port=server.port, good=[door.good], clients=1, seconds=1.0, warm_up=0.0)
        ).result()
        if not answers.good[200]:
            sys.exit(f"error: {server.server.name} {door.name}: expected status 200, found {dict(answers.good)}")


def plan(
    model: Model,
    started: list[Running],
    clients: tuple[int, ...],
    hostile: int,
    bare: ProcessPoolExecutor,
    pool: ProcessPoolExecutor,
) -> Iterator[tuple[Key, Callable[[float], Row]]]:
    """Yield each measurement with its key."""
    for count in clients:
        yield (BARE, count, False), partial(bare_row, bare, model, count)
        for server in started:
            for number, door in enumerate(server.server.doors):
                name = server.server.name if door.name in server.server.name else f"{server.server.name} {door.name}"
                for is_hostile in (False, True) if count == hostile else (False,):
                    key = (name, count, is_hostile)
                    yield key, partial(server_row, pool, server, number, key)


@dataclass(frozen=True)
class Bar:
    """A bar: what was measured, and what it must reach; with `at_most` what it must not exceed."""

    text: str
    measured: float
    bar: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Return whether it holds; a number that was not measured (NaN) does not."""
        return self.measured <= self.bar if self.at_most else self.measured >= self.bar

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{'holds' if self.holds else 'FAILS'}: {self.text}: {self.measured:.2f} ({sign} {self.bar:.2f})"


def bars(rows: dict[Key, Row], kind: str) -> list[Bar]:
    """Return the bars that what was measured can be held to."""
    compared: list[Bar] = []
    raw, invocations, mlflow = "flowerml raw", "flowerml /invocations", "mlflow /invocations"

    def ratio(text: str, name: str, peer: str, clients: int, bar: float) -> None:
        if {(name, clients, False), (peer, clients, False)} <= rows.keys():
            share = rows[name, clients, False].a_second / rows[peer, clients, False].a_second
            compared.append(Bar(f"{text}, {clients} client{'s' * (clients > 1)}", share, bar))

    if {(raw, 1, False), (BARE, 1, False)} <= rows.keys():
        more = rows[raw, 1, False].p50_ms - rows[BARE, 1, False].p50_ms
        compared.append(Bar("raw bodies, 1 client: ms more than in process", more, 2.0, at_most=True))
    if kind == "image":
        ratio("raw bodies against mlflow models serve", raw, mlflow, 32, 1.3)
        ratio("raw bodies against Classifier.predict", raw, BARE, 32, 0.88)
    else:
        ratio("raw bodies against mlflow models serve", raw, mlflow, 32, 4.5)
    for clients in CLIENTS:
        ratio("/invocations against mlflow models serve", invocations, mlflow, clients, 1 - TOLERANCE)
        ratio("raw bodies against LitServe", raw, "litserve raw", clients, 1 - TOLERANCE)
        ratio("JSON against LitServe", "flowerml json", "litserve json", clients, 1 - TOLERANCE)
    for (name, clients, hostile), row in rows.items():
        if hostile and name.startswith("flowerml"):
            times = row.p99_ms / rows[name, clients, False].p99_ms
            compared.append(Bar(f"{name}, {clients} clients: p99 with a third hostile", times, 2.0, at_most=True))
    return compared


def print_table(rows: list[Row]) -> None:
    """Print the rows as a table."""
    titles = (
        "",
        "clients",
        "answers/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "CPU ms",
        "MB",
        "refused",
        "failed",
        "load's CPU",
    )
    table = Table(*titles)
    for row in rows:
        numbers = (row.a_second, row.p50_ms, row.p95_ms, row.p99_ms, row.cpu_ms)
        name = row.what + (", a third hostile" if row.hostile else "")
        rest = (f"{row.memory_mb:.0f}", f"{row.refused:.2f}", str(row.failed), f"{row.own_cpu:.2f}")
        table.add_row(name, str(row.clients), *(f"{number:.1f}" for number in numbers), *rest)
    Console(width=150).print(table)


def show(number: int, row: Row) -> None:
    """Say on stderr how far it is."""
    hostile = ", a third hostile" if row.hostile else ""
    print(f"round {number + 1}: {row.what}, {row.clients} clients{hostile}: {row.a_second:.0f}/s", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="PIPELINE|MODEL")
    add("--seconds", type=float, default=3.0, help="duration of each measurement (default: 3)")
    add("--rounds", type=int, default=3, help="rounds whose median is taken (default: 3)")
    add("--clients", type=int, nargs="+", default=CLIENTS)
    add("--hostile", type=int, default=HOSTILE_CLIENTS, help="clients of the measurement with a third hostile")
    add("--servers", nargs="+", default=NAMES, choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    add("--bentoml", metavar="PYTHON", help="a Python that has BentoML and this project")
    add("--options", help="further options of `flowerml serve`, in one string")
    add("--json", action="store_true", help="print the numbers as JSON")
    return parser.parse_args()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end with it
    options = parse()
    folder = Path("models", options.model, "mlflow")
    folder = folder if folder.is_dir() else Path(options.model)
    if not (folder / "serving_input_example.json").is_file():
        sys.exit(f"error: {folder}: no exported model; expected a folder such as models/flowers/mlflow")
    model = Model.read(folder)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    compared = servers(model, workers=workers, ours=options.options, bentoml=options.bentoml)
    measured: dict[Key, list[Row]] = defaultdict(list)
    with ExitStack() as stack:
        spawn = partial(ProcessPoolExecutor, 1, mp_context=get_context("spawn"))
        bare, pool = stack.enter_context(spawn()), stack.enter_context(spawn())
        started = [stack.enter_context(running(server)) for server in compared if server.name in options.servers]
        for server in started:
            check(pool, server)
        for number in range(options.rounds):
            steps = list(
                plan(model, started, clients=tuple(options.clients), hostile=options.hostile, bare=bare, pool=pool)
            )
            for key, measure in steps if number % 2 == 0 else reversed(steps):
                measured[key].append(measure(options.seconds))
                show(number, measured[key][-1])
    rows = {key: median_row(several) for key, several in measured.items()}
    judged = bars(rows, model.kind)
    if options.json:
        bars_json = [asdict(bar) | {"holds": bar.holds} for bar in judged]
        print(json.dumps({"rows": [asdict(row) for row in rows.values()], "bars": bars_json}, indent=2))
    else:
        print_table(list(rows.values()))
        print("\n".join(map(str, judged)))
    sys.exit(0 if all(bar.holds for bar in judged) else 1)


if __name__ == "__main__":
    main()
