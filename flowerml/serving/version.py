"""Which model gives an answer: the registered version, which MLflow writes beside what it loads from `models:/`."""

from pathlib import Path
from typing import Any

import yaml

from flowerml.classifier.classifier import Classifier
from flowerml.core.regular import read_regular

META_FILE = "registered_model_meta"
MAX_BYTES = 10**5  # of that file; MLflow writes a hundred
DEPTH = 2  # folders between a classifier and the model that holds it


def model_json(classifier: Classifier) -> dict[str, str | None]:
    """Return {"name", "version"} of a loaded classifier; without a version, the name is that of its pipeline."""
    pipeline = str(classifier.description["trained"].get("pipeline", classifier.kind))
    name, version = registered_version(classifier.folder) or (pipeline, None)
    return {"name": name, "version": version}


def registered_version(classifier: Path) -> tuple[str, str] | None:
    """Return name and version of the registered model that holds a classifier's folder; None where none does."""
    for folder in classifier.resolve().parents[:DEPTH]:
        if (folder / META_FILE).is_file():
            meta = _meta(folder / META_FILE)
            name, version = meta.get("model_name"), meta.get("model_version")
            return (name, str(version)) if name and isinstance(name, str) else None
    return None


def _meta(path: Path) -> dict[str, Any]:
    """Return what MLflow wrote; empty for a file that it did not write, or that is damaged."""
    try:
        meta = yaml.safe_load(read_regular(path, limit=MAX_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return meta if isinstance(meta, dict) else {}
