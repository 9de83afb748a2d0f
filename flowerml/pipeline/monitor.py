"""What `flowerml monitor` does: the records of one model in a log, their drift, accuracy from later labels, a run."""

import json
import math
import re
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowerml.classifier.classifier import Classifier
from flowerml.core.display import preview_list, printable
from flowerml.core.errors import DataError, ModelError
from flowerml.core.urls import without_secrets
from flowerml.monitoring import history, labels, log, page
from flowerml.monitoring.drift import LEVEL, first_of_each_input
from flowerml.monitoring.history import History
from flowerml.monitoring.inputs import kept_input
from flowerml.monitoring.labels import Labelled
from flowerml.monitoring.record import Record
from flowerml.monitoring.reference import Reference, read_reference
from flowerml.serving.version import model_json

WINDOW = 500
MOST_RECORDS = 50_000  # in memory at a time; each takes about 3 kB
RUN = "monitor"

_NOT_ALLOWED = re.compile(r"[^\w. /:-]")  # in the name of a metric

Model = tuple[str, str | None]
"""Name and version."""


@dataclass
class _Records:
    """The last records of one model, and the last one of each input that has a label, by digest."""

    last: deque[Record]
    labelled: dict[str, Record] = field(default_factory=dict)
    count: int = 0


@dataclass(frozen=True)
class Monitored:
    """What a log says of a model: its records, their drift and, with labels, its accuracy.

    `records` are the last ones, `count` is the number of all. `damage` counts the lines of the log that are none.
    """

    model: Model
    classifier: Classifier
    reference: Reference
    records: list[Record]
    count: int
    history: History
    labelled: Labelled | None
    damage: log.Damage

    @property
    def title(self) -> str:
        """Return name and version of the model."""
        name, version = self.model
        return name if version is None else f"{name} version {version}"

    def errors(self) -> dict[str, int]:
        """Return how many of the records had each error, the most frequent first."""
        return dict(Counter(record.error for record in self.records if record.error is not None).most_common())

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        name, version = self.model
        return {
            "model": {"name": name, "version": version},
            **self.history.to_json(),
            "all_records": self.count,
            "error_codes": self.errors(),
            "damaged_lines": self.damage.count,
            "accuracy": None if self.labelled is None else self.labelled.to_json(),
        }


def run(
    source: str,
    classifier: Classifier,
    *,
    since: float = -math.inf,
    until: float = math.inf,
    window: int = WINDOW,
    level: float = LEVEL,
    later: Mapping[str, str] | None = None,
) -> Monitored:
    """Return what a log says of a classifier from `since` to `until`, in seconds since 1970.

    `window` is the number of distinct inputs that are tested at a time; `later` are labels by digest. Raises ModelError
    for a classifier without a reference, and DataError where the log has too few records of it.
    """
    reference = read_reference(classifier.folder, classifier.description)
    if reference is None:
        raise ModelError(
            f"{classifier.folder}: expected a classifier with a reference, found one that was trained before there "
            "were any; train it again"
        )
    model = classifier_model(classifier)
    damage = log.Damage()
    most = min(history.MOST * window, MOST_RECORDS)
    read = log.read(source, damage, since=since, until=until)
    chosen = _of_model(read, model, later or {}, most=most, source=source, damage=damage)
    records = list(chosen.last)
    labelled = None
    if later is not None:
        labelled = labels.labelled(
            list(chosen.labelled.values()), later, classes=classifier.classes, expected=reference.accuracy
        )
        if labelled is None:
            raise DataError(
                f"expected labels of inputs in the log, found none among {len(later):,}: a digest is the SHA-256 of "
                "the input as it was sent"
            )
    drift = history.history(reference, records, size=window, level=level)
    return Monitored(model, classifier, reference, records, chosen.count, drift, labelled, damage)


def classifier_model(classifier: Classifier) -> Model:
    """Return name and version of a classifier, as a log's records have them."""
    described = model_json(classifier)
    return str(described["name"]), described["version"]


def log_run(monitored: Monitored, page: Path | None) -> str:
    """Log what was found, with the page, as a run of MLflow in the model's experiment; return its id."""
    from flowerml.tracking import runs

    name, version = monitored.model
    tags = {"stage": RUN, "model": name, "version": version or "", "drifted": monitored.history.latest.drifted}
    with runs.run(name, RUN, {tag: str(value) for tag, value in tags.items()}) as run:
        latest = monitored.history.latest
        run.params({"model": name, "version": version, "level": latest.level, "window": monitored.history.size})
        for step, window in enumerate(monitored.history.windows):
            run.metrics({"drifted": float(window.drifted), "smallest_p": window.smallest_p}, step=step)
        run.metrics({"records": latest.records, "unreadable": latest.errors, **_by_name(monitored)})
        with tempfile.TemporaryDirectory(prefix="flowerml-") as folder:
            path = Path(folder, "drift.json")
            path.write_text(json.dumps(monitored.to_json(), indent=2), encoding="utf-8")
            run.artifact(path)
        if page is not None:
            run.artifact(page)
        return run.run_id


def _by_name(monitored: Monitored) -> dict[str, float]:
    """Return the p-value and the effect of each test, and the accuracy, by names that MLflow accepts."""
    values: dict[str, float] = {}
    for comparison in monitored.history.latest.comparisons:
        name = _NOT_ALLOWED.sub("", comparison.name)
        values |= {f"p/{name}": comparison.corrected, f"effect/{name}": comparison.effect}
    if monitored.labelled is not None:
        values["accuracy"] = monitored.labelled.overall.interval.estimate
    return values


def _of_model(
    records: Iterable[Record], model: Model, later: Mapping[str, str], *, most: int, source: str, damage: log.Damage
) -> _Records:
    """Return the records of a model, of which the last `most` are kept; raises DataError where there are none.

    `damage` counts the lines that were skipped while the records were read.
    """
    chosen = _Records(deque(maxlen=most))
    others: Counter[Model] = Counter()
    for record in records:
        if (record.model, record.version) != model:
            others[record.model, record.version] += 1
            continue
        chosen.count += 1
        chosen.last.append(record)
        if record.digest in later:
            chosen.labelled[record.digest] = record
    if not chosen.count:
        has = [f"{_shown(*other)} ({count:,})" for other, count in others.most_common()]
        advice = f"it has records of {preview_list(has)}: name that model with --model" if has else "it has none at all"
        skipped = f"; {damage}" if damage.count else ""
        raise DataError(
            f"{printable(source)}: expected records of {_shown(*model)} in this time, found none; {advice}{skipped}"
        )
    return chosen


def _shown(name: str, version: str | None) -> str:
    return f"{printable(name, 60)} without a version" if version is None else f"{printable(name, 60)} version {version}"


def write_page(path: Path, monitored: Monitored, source: str) -> None:
    """Write the page of what was found in the logs that `source` names; raises OSError."""
    logs = log.find_logs(source)

    def kept(digest: str) -> bytes | None:
        return next((content for each in logs if (content := kept_input(each, digest)) is not None), None)

    history_, classifier = monitored.history, monitored.classifier
    distinct = first_of_each_input(monitored.records)[-history_.size :]
    subject = page.Subject(monitored.title, classifier.task, classifier.names, _facts(monitored, source))
    page.write(path, subject, history_, monitored.reference, distinct, monitored.labelled, kept=kept)


def _facts(monitored: Monitored, source: str) -> dict[str, str]:
    """Return what the page says of the model, the log and the records."""
    accuracy = monitored.reference.accuracy
    errors = [f"{code} ({count:,})" for code, count in monitored.errors().items()]
    facts = {
        "model": monitored.title,
        "classes": f"{len(monitored.classifier.classes):,}",
        "log": without_secrets(source),
        "records of it": f"{monitored.count:,}, of which the last {len(monitored.records):,} were looked at",
        "inputs sent before": f"{monitored.history.repeats:,}; each input counts once",
        "unreadable": preview_list(errors, 12) or "none",
        "validation examples": f"{monitored.reference.count:,}, saved with the classifier",
        "accuracy on them": "" if accuracy is None else f"{100 * accuracy.share:.1f} % of {accuracy.count:,}",
        "damaged lines of the log": f"{monitored.damage.count:,}",
    }
    return {name: value for name, value in facts.items() if value}
