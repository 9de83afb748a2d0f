"""From a saved classifier to a version in the MLflow model registry."""

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from flowerml.classifier.classifier import TOP_K, Classifier
from flowerml.config.paths import PACKAGE
from flowerml.core import files
from flowerml.registry import card
from flowerml.registry.gate import Candidate, Decision, Rule
from flowerml.tracking import runs

# The rooms that a served model needs; the rest of the package is not shipped with it.
SERVED_ROOMS = ("core", "data", "engine", "config", "tasks", "classifier", "serving")
# What the served model imports; the rest of the pipeline, torch above all, stays behind.
REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")


@dataclass(frozen=True)
class Registration:
    """A new version of a registered model, whether the alias was given to it, and why."""

    name: str
    version: str
    alias: str
    promoted: bool
    reason: str
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, logged: "Logged", alias: str, verdict: Decision) -> Self:
        """What the verdict made of a version."""
        return cls(logged.name, logged.version, alias, verdict.promoted, verdict.reason, verdict.rules)


@dataclass(frozen=True)
class Logged:
    """A model that was logged and registered as a version; `id` is MLflow's own name for it."""

    name: str
    version: str
    id: str


def log_model(run: runs.Run, classifier: Classifier, *, example: Any, name: str) -> Logged:
    """Log a classifier as an MLflow model, and register it.

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
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch, mlflow.start_run(run_id=run.run_id):
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(PACKAGE / "serving" / "pyfunc.py"),
            artifacts={"classifier": str(classifier.folder)},
            code_paths=[str(_copy_served_rooms(Path(scratch)))],
            signature=signature,
            input_example=(
                pd.DataFrame({column: [classifier.task.to_json(example)]}),
                {"top_k": TOP_K, "explain": False},
            ),
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            registered_model_name=name,
        )
    return Logged(name, str(logged.registered_model_version), logged.model_id)


def _copy_served_rooms(folder: Path) -> Path:
    """Copy what a served model imports of this package into `folder`, as a package of the same name; return it."""
    target = folder / PACKAGE.name
    target.mkdir()
    shutil.copy(PACKAGE / "__init__.py", target)
    for room in SERVED_ROOMS:
        shutil.copytree(PACKAGE / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def describe(logged: Logged, new: Candidate, tags: Mapping[str, Any]) -> None:
    """Tag a version with what the gate will compare of it, and with where it comes from."""
    from mlflow import MlflowClient

    client = MlflowClient()
    known = {
        "accuracy": new.accuracy,
        "test_digest": new.test_digest,
        "classes": json.dumps(new.classes),
        "ece": new.ece,
        "classifier_bytes": new.size,
        **tags,
    }
    for key, value in known.items():
        if value is not None:
            client.set_model_version_tag(logged.name, logged.version, key, str(value))


def add_card(logged: Logged, facts: card.Facts) -> None:
    """Put the model card among the model's files, and a short one into the version's description."""
    from mlflow import MlflowClient

    client = MlflowClient()
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
        path = Path(scratch, card.FILE)
        path.write_text(card.whole(facts), encoding="utf-8")
        client.log_model_artifact(logged.id, str(path))
    client.update_model_version(logged.name, logged.version, description=card.short(facts))


def copy(logged: Logged, folder: Path) -> None:
    """Leave a copy of the registered model in a folder, atomically."""
    from mlflow.artifacts import download_artifacts

    with files.replacing(folder) as temporary:
        download_artifacts(f"models:/{logged.id}", dst_path=str(temporary))


def size(folder: Path) -> int:
    """The bytes of a saved classifier."""
    return sum(path.stat().st_size for path in folder.iterdir())


def summary(result: Registration) -> str:
    """What became of the new version, in one line, and how to serve it."""
    if not result.promoted:
        return f"registered {result.name} version {result.version}; {result.alias} stays where it was ({result.reason})"
    serve = f"mlflow models serve -m models:/{result.name}@{result.alias} --env-manager local"
    return f"registered {result.name} version {result.version} as {result.alias} ({result.reason})\nserve it: {serve}"
