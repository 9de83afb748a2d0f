"""The metrics of a server, for Prometheus: of this process, or added up over all workers of a server.

Workers that share a server write into the folder that PROMETHEUS_MULTIPROC_DIR names when prometheus_client is first
imported; any of them answers for all.
"""

import os
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.samples import Sample

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
RECENT = 1_000
"""The number of answers of a model whose share of known ones is shown."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
MOST_VALUES = 100
"""The number of values of a label at most: a scraper keeps each for ever."""

# A gauge of several processes cannot forget a value, so those that mean "none" are left out when they are shown.
_NO_DRIFT, _NO_P = -1.0, 2.0

_LIVE_FILE = re.compile(r"gauge_live[a-z]*_([0-9]+)\.db")


class Collector(Protocol):
    """What yields metrics."""

    def collect(self) -> "Iterable[Metric]":
        """Return the metrics as they are now."""


class Metrics:
    """Counters and gauges of one process. Thread-safe; each call takes some microseconds.

    Labels are bounded: a route is a template of ours and no path, and what goes beyond MOST_VALUES is "other".

    >>> metrics = Metrics()
    >>> metrics.request("/predict", "POST", 200, 0.009)
    >>> 'flowerml_requests_total{method="POST",route="/predict",status="200"} 1.0' in metrics.render()[0].decode()
    True
    """

    def __init__(self) -> None:
        import prometheus_client
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        prometheus_client.disable_created_metrics()  # a second line for each counter, with the time of its first count
        folder = os.environ.get(FOLDER_VARIABLE)
        self._folder = Path(folder) if folder else None
        self._registry = CollectorRegistry()
        registry = self._registry
        if self._folder is None:
            ProcessCollector(registry=registry)

        def gauge(name: str, text: str, labels: tuple[str, ...], mode: Any) -> Gauge:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)

        self._requests = Counter(
            "flowerml_requests", "Requests answered", ("route", "method", "status"), registry=registry
        )
        self._seconds = Histogram(
            "flowerml_request_seconds",
            "Time from a request's first byte to its answer's last",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self._inputs = Counter(
            "flowerml_inputs",
            "Inputs answered; the outcome is known, unknown or the code of an error",
            ("model", "version", "outcome"),
            registry=registry,
        )
        self._pending = gauge("flowerml_pending", "Requests accepted and not answered", ("kind",), "livesum")
        self._recent = gauge("flowerml_recent_answers", "The newest answers of a model", ("model",), "livesum")
        self._recent_known = gauge("flowerml_recent_known", "Those of them that are known", ("model",), "livesum")
        self._info = gauge("flowerml_model_info", "The version that answers; 1", ("model", "version"), "livemax")
        self._reloads = Counter(
            "flowerml_reloads", "Versions taken into use, the first included", ("model",), registry=registry
        )
        self._refused = Counter(
            "flowerml_versions_refused", "Versions not taken into use", ("model",), registry=registry
        )
        self._registry_up = gauge(
            "flowerml_registry_up", "Whether the model's registry responds, 1 or 0", ("model",), "livemin"
        )
        of = ("model", "version")
        self._drift = gauge("flowerml_drift", "1 where the newest inputs drifted, 0 where not", of, "livemax")
        self._smallest_p = gauge(
            "flowerml_drift_smallest_p", "The smallest corrected p of the tests for drift", of, "livemin"
        )
        self._compared = gauge("flowerml_drift_records", "The newest inputs that were tested for drift", of, "livemax")
        self._written = Counter("flowerml_log_records", "Records written to the prediction log", registry=registry)
        self._dropped = Counter(
            "flowerml_log_records_dropped", "Records that the prediction log lacks", ("reason",), registry=registry
        )
        self._unmeasured = Counter(
            "flowerml_log_records_without_properties",
            "Records whose inputs were not measured, to leave the processor to requests",
            registry=registry,
        )
        self._lock = Lock()
        self._values: dict[str, set[str]] = defaultdict(set)
        self._windows: dict[str, _Window] = {}
        self._loaded: dict[str, str] = {}
        self._drifting: dict[str, str] = {}
        self._children: dict[tuple[object, ...], Any] = {}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request of a route, such as "/models/{name}/predict"."""
        route = self._bounded("route", route)
        self._child(self._requests, route, method if method in METHODS else OTHER, str(status)).inc()
        self._child(self._seconds, route).observe(seconds)

    def answered(self, model: Mapping[str, str | None], outcomes: Sequence[str]) -> None:
        """Count the inputs of a request by outcome ("known", "unknown" or an error's code), and which were known."""
        name, version = str(model["name"]), self._bounded("version", str(model["version"] or ""))
        for outcome in outcomes:
            self._child(self._inputs, name, version, self._bounded("outcome", outcome)).inc()
        known = [outcome == "known" for outcome in outcomes if outcome in ("known", "unknown")]
        if not known:
            return
        with self._lock:
            window = self._windows.get(name)
            if window is None or window.version != version:
                window = self._windows[name] = _Window(version)
            window.extend(known)
            total, positive = len(window.known), window.positive
        self._child(self._recent, name).set(total)
        self._child(self._recent_known, name).set(positive)

    def pending(self, kind: str, change: int) -> None:
        """Change how many requests are accepted and not answered; `kind` is "answers" or "explanations"."""
        self._child(self._pending, kind).inc(change)

    def reloaded(self, name: str, version: str | None) -> None:
        """Say that a version of a model answers from now on."""
        label = self._bounded("version", version or "")
        with self._lock:
            before, self._loaded[name] = self._loaded.get(name), label
        if before is not None and before != label:
            self._child(self._info, name, before).set(0)
        self._child(self._info, name, label).set(1)
        self._child(self._reloads, name).inc()

    def refused(self, name: str) -> None:
        """Count a version of a model that is not taken into use."""
        self._child(self._refused, name).inc()

    def registry(self, name: str, reachable: bool) -> None:
        """Say whether the registry of a model responds."""
        self._child(self._registry_up, name).set(int(reachable))

    def drift(self, model: str, version: str | None, drifted: bool, p: float, records: int) -> None:
        """Say whether the newest `records` inputs of a model drifted, and the smallest corrected p-value."""
        label = self._bounded("version", version or "")
        with self._lock:
            before, self._drifting[model] = self._drifting.get(model), label
        if before is not None and before != label:
            self._set_drift(model, before, _NO_DRIFT, _NO_P, 0)
        self._set_drift(model, label, float(drifted), p, records)

    def _set_drift(self, model: str, version: str, drifted: float, p: float, records: int) -> None:
        self._child(self._drift, model, version).set(drifted)
        self._child(self._smallest_p, model, version).set(p)
        self._child(self._compared, model, version).set(records)

    def log_written(self, count: int) -> None:
        """Count records that were written to the prediction log."""
        self._written.inc(count)

    def log_dropped(self, reason: str, count: int) -> None:
        """Count records that the prediction log lacks; `reason` is one word of ours, such as "queue" or "disk"."""
        self._child(self._dropped, self._bounded("reason", reason)).inc(count)

    def without_properties(self, count: int) -> None:
        """Count records whose inputs were not measured."""
        self._unmeasured.inc(count)

    def render(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format, and its content type."""
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        registry: Any = _Shown(self._collector())
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def _collector(self) -> "Collector":
        if self._folder is None:
            return self._registry
        from prometheus_client.multiprocess import MultiProcessCollector

        _forget_dead(self._folder)
        return MultiProcessCollector(None, str(self._folder))

    def _child(self, metric: Any, *labels: str) -> Any:
        """Return a metric with its labels; looking it up in the library takes several times as long."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def _bounded(self, label: str, value: str) -> str:
        values = self._values[label]
        if value in values:
            return value
        with self._lock:
            if len(values) >= MOST_VALUES:
                return OTHER
            values.add(value)
        return value


class _Window:
    """Which of the newest answers of a version are known, and how many of them."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.known: deque[bool] = deque()
        self.positive = 0

    def extend(self, known: Iterable[bool]) -> None:
        for value in known:
            self.known.append(value)
            self.positive += value
            if len(self.known) > RECENT:
                self.positive -= self.known.popleft()


class _Shown:
    """The metrics that are shown: without values that mean "none", and with the share of known answers."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        recent: dict[str, float] = {}
        share = GaugeMetricFamily(
            "flowerml_known_share", f"The share of known answers among the newest {RECENT:,}", labels=["model"]
        )
        for metric in sorted(self._collector.collect(), key=lambda metric: metric.name):
            metric.samples = [sample for sample in metric.samples if _is_shown(sample)]
            if metric.name == "flowerml_recent_answers":
                recent = {sample.labels["model"]: sample.value for sample in metric.samples}
            elif metric.name == "flowerml_recent_known":
                for sample in metric.samples:
                    if total := recent.get(sample.labels["model"]):
                        share.add_metric([sample.labels["model"]], sample.value / total)
            yield metric
        yield share


def _is_shown(sample: "Sample") -> bool:
    match sample.name:
        case "flowerml_model_info" | "flowerml_drift_records":
            return sample.value > 0
        case "flowerml_drift":
            return sample.value != _NO_DRIFT
        case "flowerml_drift_smallest_p":
            return sample.value != _NO_P
    return True


def _forget_dead(folder: Path) -> None:
    """Remove the gauges of processes that ended, of which none would say so after a crash."""
    from prometheus_client.multiprocess import mark_process_dead

    for file in folder.glob("gauge_live*.db"):
        match = _LIVE_FILE.fullmatch(file.name)
        if match and not _is_alive(int(match[1])):
            mark_process_dead(int(match[1]), str(folder))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
