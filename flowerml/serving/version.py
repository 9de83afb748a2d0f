"""Which registered version a folder of files is: MLflow notes it beside what it loads by a `models:/` address."""

from pathlib import Path

import yaml

NOTE = "registered_model_meta"
DEPTH = 2  # folders between a classifier and the model that holds it


def registered(classifier: Path) -> tuple[str, str] | None:
    """Name and version of the registered model that a classifier's folder lies in, None where it is in none."""
    for folder in classifier.resolve().parents[:DEPTH]:
        if (folder / NOTE).is_file():
            noted = yaml.safe_load((folder / NOTE).read_text(encoding="utf-8")) or {}
            name, version = noted.get("model_name"), noted.get("model_version")
            return (str(name), str(version)) if name else None
    return None
