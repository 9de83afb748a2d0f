"""Which registered version a folder is: MLflow writes it beside what it loads from a `models:/` address."""

from pathlib import Path

import yaml

META_FILE = "registered_model_meta"
DEPTH = 2  # folders between a classifier and the model that holds it


def registered_version(classifier: Path) -> tuple[str, str] | None:
    """Return name and version of the registered model that holds a classifier's folder; None where none does."""
    for folder in classifier.resolve().parents[:DEPTH]:
        if (folder / META_FILE).is_file():
            meta = yaml.safe_load((folder / META_FILE).read_text(encoding="utf-8")) or {}
            name, version = meta.get("model_name"), meta.get("model_version")
            return (str(name), str(version)) if name else None
    return None
