"""From a saved classifier to a version in the MLflow model registry."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowerml import files, tracking
from flowerml.classifier import TOP_K, Classifier
from flowerml.gate import Contender, judge

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PACKAGE = Path(__file__).parent
# What the served model imports; the rest of the pipeline, torch above all, stays behind.
REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")


@dataclass(frozen=True)
class Registration:
    """A new version of a registered model, and whether the alias was given to it."""

    name: str
    version: str
    alias: str
    promoted: bool
    reason: str


def log_model(run: tracking.Run, classifier: Classifier, *, example: Any, name: str, folder: Path) -> str:
    """Log a classifier as an MLflow model, leave a copy in `folder`, register it; gives the version's number.

    The model is logged as code with flowerml beside it, so that it loads without this project, and with the
    requirements of predicting only. `example` is a raw input.
    """
    import mlflow
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    column = classifier.task.INPUT
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, column)]),
        params=ParamSchema([ParamSpec("top_k", DataType.long, TOP_K), ParamSpec("explain", DataType.boolean, False)]),
    )
    with mlflow.start_run(run_id=run.id):
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(PACKAGE / "pyfunc.py"),
            artifacts={"classifier": str(classifier.folder)},
            code_paths=[str(PACKAGE)],
            signature=signature,
            input_example=(
                pd.DataFrame({column: [classifier.task.to_json(example)]}),
                {"top_k": TOP_K, "explain": False},
            ),
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            registered_model_name=name,
        )
    with files.replacing(folder) as temporary:
        mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(temporary))
    return str(logged.registered_model_version)


def promote(*, name: str, alias: str, new: Contender, tags: Mapping[str, Any]) -> Registration:
    """Tag a registered version with what is known of it, and give it the alias if the gate lets it through."""
    from mlflow import MlflowClient

    client = MlflowClient()
    verdict = judge(new, champion(client, name, alias))
    known = {
        "accuracy": new.accuracy,
        "test_digest": new.test_digest,
        "classes": json.dumps(new.classes),
        "verdict": "promoted" if verdict.promoted else "not promoted",
        "reason": verdict.reason,
        **tags,
    }
    for key, value in known.items():
        client.set_model_version_tag(name, new.version, key, str(value))
    if verdict.promoted:
        client.set_registered_model_alias(name, alias, new.version)
    return Registration(name, new.version, alias, verdict.promoted, verdict.reason)


def champion(client: "MlflowClient", name: str, alias: str) -> Contender | None:
    """The version that has the alias, None where none has."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            return None
        raise
    return _contender(found)


def summary(result: Registration) -> str:
    """What became of the new version, in one line, and how to serve it."""
    if not result.promoted:
        return f"registered {result.name} version {result.version}; {result.alias} stays where it was ({result.reason})"
    serve = f"mlflow models serve -m models:/{result.name}@{result.alias} --env-manager local"
    return f"registered {result.name} version {result.version} as {result.alias} ({result.reason})\nserve it: {serve}"


def _contender(found: "ModelVersion") -> Contender | None:
    tags = found.tags
    if not {"accuracy", "test_digest", "classes"} <= set(tags):
        return None  # registered by hand, so there is nothing to compare with
    classes = tuple(json.loads(tags["classes"]))
    return Contender(str(found.version), float(tags["accuracy"]), tags["test_digest"], classes)
