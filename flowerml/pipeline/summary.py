"""Where the pipelines of a project stand: accuracy on test with its interval, the registered version, and why.

All is read from files that the stages have written, so this takes milliseconds and asks no server.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowerml.config.entries import kinds
from flowerml.config.params import PARAMS_FILE, read
from flowerml.config.paths import Paths
from flowerml.core import files
from flowerml.tracking import lineage


@dataclass(frozen=True)
class Standing:
    """A pipeline's results, in the keys of `flowerml summary --json`; None for what is not there yet.

    `low` and `high` are the limits of the 95 % interval of the accuracy. `promoted` is whether the gate gave the
    version the alias. `current` is whether that version has the weights of the classifier that is there now.
    """

    pipeline: str
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    examples: int | None = None
    report: str | None = None
    classifier: str | None = None
    model: str | None = None
    version: str | None = None
    alias: str | None = None
    promoted: bool | None = None
    reason: str | None = None
    current: bool | None = None


def standings(root: Path = Path()) -> list[Standing]:
    """Return where each pipeline of params.yaml stands; raises ParamsError where that cannot be read."""
    path = root / PARAMS_FILE
    return [_standing(Paths(name, root)) for name in kinds(read(path), path)]


def _standing(paths: Paths) -> Standing:
    return Standing(paths.pipeline, **dict(_facts(paths)))


def _facts(paths: Paths) -> Iterator[tuple[str, Any]]:
    intervals = _read(paths.reports / "intervals.json")
    accuracy = _read(paths.reports / "metrics.json").get("accuracy")
    if accuracy is not None:
        limits = intervals.get("intervals", {}).get("accuracy", {})
        yield from {"accuracy": accuracy, "examples": intervals.get("examples"), **limits}.items()
    for name, path in {"report": paths.reports / "report.html", "classifier": paths.classifier}.items():
        if path.exists():
            yield name, path.as_posix()
    registration = _read(paths.registration)
    if "version" in registration:
        yield "model", registration["name"]
        yield from ((name, registration[name]) for name in ("version", "alias", "promoted", "reason"))
        yield "current", _weights(paths.classifier) == registration.get("weights_digest")


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a stage's JSON; nothing where the stage has not run or the file is damaged."""
    try:
        content = files.read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _weights(classifier: Path) -> str | None:
    try:
        return lineage.weights_digest(classifier)
    except OSError:
        return None
