"""The copy that a project keeps of a registered model, for a registry that has lost its files.

A clone or a backup may have mlflow.db and what DVC keeps in models/, and not the folder mlruns.
"""

import shutil
from pathlib import Path

from flowerml.config.paths import DESCRIPTION
from flowerml.core.errors import ModelError
from flowerml.registry import client
from flowerml.serving.version import META_FILE
from flowerml.tracking import lineage
from flowerml.tracking.mirror import notify


def kept_copy(address: str) -> Path | None:
    """Return the folder in models/ that has the registered version with this address, bit for bit, and say so.

    None where there is none.
    """
    try:
        record = client.registered(address)
    except ModelError:  # the caller has an error to raise
        return None
    digest = record.tags.get("weights_digest") if record else None
    for folder in sorted(Path("models").glob("*/mlflow")) if digest else ():
        classifier = folder / "artifacts/classifier"
        if (classifier / DESCRIPTION).is_file() and lineage.weights_digest(classifier) == digest:
            notify(f"{address}: the registry has lost its files; loading the copy of the same classifier in {folder}")
            return folder
    return None


def copy_kept(address: str, folder: Path) -> bool:
    """Copy it to an existing folder, with the name and version that MLflow would add; return whether there is one."""
    kept = kept_copy(address)
    record = client.registered(address) if kept else None
    if kept is None or record is None:
        return False
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    (folder / META_FILE).write_text(f"model_name: {record.name}\nmodel_version: '{record.version}'\n", "utf-8")
    return True
