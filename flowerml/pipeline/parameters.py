"""Stage `params`: params.yaml and the defaults of flowerml -> every parameter, in reports/<pipeline>/params.yaml.

DVC asks of a stage's parameters that the file has them all, and params.yaml says only what differs from the defaults.
So the stages of a project depend on the sections of this file: a value that changes makes just the right stages stale,
be it given or a default of another version. Only the projects of `flowerml init` have this stage.
"""

import hashlib
from pathlib import Path
from typing import Any

import yaml

from flowerml.config import params, pin
from flowerml.config.pipeline import Pipeline
from flowerml.core import files
from flowerml.core.urls import without_password, without_secrets

FILE = "params.yaml"
DIGITS = 4  # of the hash of a query: enough to notice that it has changed, too few to guess a secret by


def run(pipeline: Pipeline) -> Path:
    """Write every parameter of a pipeline, and the version that the project is pinned to; return the file."""
    path = pipeline.paths.reports / FILE
    version = pin.pinned(params.read(), params.PARAMS_FILE) or pin.installed()
    with files.replacing(path) as temporary:
        temporary.write_text(_text(pipeline, version), encoding="utf-8")
    return path


def summary(path: Path) -> str:
    """Return one line about the file that was written."""
    return f"all parameters: {path}"


def _text(pipeline: Pipeline, version: str | None) -> str:
    header = (
        f"# Every parameter of {pipeline.name}: those of params.yaml, and the defaults of flowerml for the others.\n"
        "# Written by the stage `params`; change params.yaml instead.\n"
    )
    values: dict[str, Any] = {pin.PIN: version, "kind": pipeline.kind, **pipeline.sections()}
    if without_secrets(pipeline.data.source) != without_password(pipeline.data.source):
        # The query is not written, as it may hold a signature, but DVC must notice another one.
        values["data"]["source_query"] = hashlib.sha256(pipeline.data.source.encode()).hexdigest()[:DIGITS]
    return header + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
