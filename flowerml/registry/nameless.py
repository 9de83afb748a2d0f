"""The files of a logged model without what only its registry decides, so that the same classifier has the same bytes.

MLflow writes ids, times and the path that a file came from into MLmodel. A copy that DVC keeps would differ after each
run, and in each clone.
"""

from pathlib import Path
from typing import Any

import yaml

FILE = "MLmodel"
CODE = "model_code_path"
OF_REGISTRY = ("artifact_path", "model_id", "model_uuid", "run_id", "utc_time_created")


def strip(folder: Path) -> None:
    """Rewrite MLmodel in the folder of a logged model; `mlflow.pyfunc.load_model` still loads it."""
    path = folder / FILE
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name in OF_REGISTRY:
        content.pop(name, None)
    for artifact in _artifacts(content):
        artifact["uri"] = artifact["path"]  # where the file lay when it was logged
    python = content.get("flavors", {}).get("python_function", {})
    if CODE in python:
        python[CODE] = Path(python[CODE]).name  # of the path in the project's folder MLflow reads no more than this
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def _artifacts(content: dict[str, Any]) -> list[dict[str, str]]:
    python = content.get("flavors", {}).get("python_function", {})
    return list((python.get("artifacts") or {}).values())
