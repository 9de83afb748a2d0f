"""Processor and memory of this machine while a run lasts, under the names that MLflow shows as its system metrics.

Not MLflow's own monitor: it calls the server itself, so it would wait for one that is down, and it keeps its samples in
memory. These go through the journal, as all else does.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from flowerml.tracking.recovery import now

if TYPE_CHECKING:
    from flowerml.tracking.runs import Run

VARIABLE = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"  # MLflow's own, which is off by default; here it is on
INTERVAL = 10.0  # seconds, as MLflow's
SAMPLES = 360  # after which the interval doubles: a search of a week has some 2,500
MEGABYTE = 1e6


@contextmanager
def sampled(run: "Run") -> Iterator[None]:
    """Log system metrics of a run until the block ends; nothing where psutil is missing, or a person has said no."""
    if find_spec("psutil") is None or os.environ.get(VARIABLE, "").lower() in ("false", "0"):
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_sample, args=(run, ended), name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sample(run: "Run", ended: threading.Event) -> None:
    psutil = _psutil()
    interval, count = INTERVAL, 0
    psutil.cpu_percent()  # the next call returns the share since this one
    try:
        while not ended.wait(interval):
            _log(run)
            count += 1
            if count % SAMPLES == 0:
                interval *= 2
        if not count:  # a search of seconds would have an empty page
            _log(run)
    except (psutil.Error, OSError):  # a full disk stops the run itself, with its own message
        return


def _log(run: "Run") -> None:
    # As steps the seconds: a run that is resumed goes on, and the journal keeps one value of a step.
    run.metrics(measure(), step=now() // 1000)


def _psutil() -> Any:
    return import_module("psutil")  # it comes with DVC, and without types


def measure() -> dict[str, float]:
    """Return the share of the processor since the last call, and the memory in use: of the machine and this process."""
    psutil = _psutil()
    memory = psutil.virtual_memory()
    return {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_usage_megabytes": psutil.Process().memory_info().rss / MEGABYTE,
    }
