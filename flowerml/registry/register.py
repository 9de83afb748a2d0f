"""Registering a saved classifier as a version in the MLflow model registry."""

import json
import logging
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from flowerml.classifier.classifier import TOP_K, Classifier
from flowerml.config.paths import PACKAGE
from flowerml.core import files
from flowerml.core.display import printable
from flowerml.core.errors import ModelError
from flowerml.registry import card, nameless, stored
from flowerml.registry.candidates import SOURCE
from flowerml.registry.gate import Candidate, Decision, Rule
from flowerml.registry.package import write_package
from flowerml.registry.signature import signature
from flowerml.tracking import runs

if TYPE_CHECKING:
    from flowerml.data.examples import Raw

# What a served model imports; torch alone would add 5.5 GB.
REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")
# MLflow refuses them in the name of a registered model or of a logged one, and the second only after some seconds;
# addresses (models:/NAME@ALIAS) read @ as the end of a name.
BAD_IN_NAME = frozenset("/:.%\"'@")
MAX_NAME = 250


@dataclass(frozen=True)
class Registration:
    """A new version of a registered model, whether it got the alias, and why."""

    name: str
    version: str
    alias: str
    promoted: bool
    reason: str
    rules: tuple[Rule, ...]
    weights_digest: str

    @classmethod
    def of(cls, logged: "Logged", alias: str, decision: Decision, weights_digest: str) -> Self:
        """Return the registration of a version that the gate has judged."""
        return cls(
            logged.name,
            logged.version,
            alias,
            decision.promoted,
            decision.reason,
            decision.rules,
            weights_digest,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the contents of registration.json, where a rule's message has the key `told`."""
        fields = asdict(self)
        fields["rules"] = [
            {"told" if key == "message" else key: value for key, value in rule.items()} for rule in fields["rules"]
        ]
        return fields


@dataclass(frozen=True)
class Logged:
    """A model that was logged and registered as a version; `id` is MLflow's id of the logged model."""

    name: str
    version: str
    id: str


def log_model(run: runs.Run, classifier: Classifier, *, example: "Raw", name: str) -> Logged:
    """Log a classifier as an MLflow model, and register it; `example` is a raw input.

    The model is logged as code ("models from code") with flowerml beside it, so it loads without this project and
    without a pickle. Its requirements are those of predicting only.
    """
    import mlflow
    import pandas as pd

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    column, value = classifier.task.INPUT, classifier.task.to_json(example)
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch, mlflow.start_run(run_id=run.run_id):
        stored.write(Path(scratch, stored.FILE), classifier, [value])
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(PACKAGE / "serving" / "pyfunc.py"),
            artifacts={"classifier": str(classifier.folder), "answers": str(Path(scratch, stored.FILE))},
            code_paths=[str(write_package(Path(scratch)))],
            signature=signature(column),
            input_example=(
                pd.DataFrame({column: [value]}),
                {"top_k": TOP_K, "explain": False},
            ),
            pip_requirements=[
                f"{package}=={version(package)}" for package in (*REQUIREMENTS, *classifier.preprocessing.packages)
            ],
            registered_model_name=name,
        )
    return Logged(name, str(logged.registered_model_version), logged.model_id)


def describe(logged: Logged, candidate: Candidate, tags: Mapping[str, str]) -> None:
    """Tag a version with its lineage and with what the gate will compare of it."""
    from mlflow import MlflowClient

    client = MlflowClient()
    values = {
        "accuracy": candidate.accuracy,
        "test_digest": candidate.test_digest,
        "classes": json.dumps(candidate.classes),
        "ece": candidate.ece,
        "classifier_bytes": candidate.size,
        SOURCE: candidate.source,
        **tags,
    }
    for key, value in values.items():
        if value is not None:
            client.set_model_version_tag(logged.name, logged.version, key, str(value))


def add_card(logged: Logged, facts: card.Facts) -> None:
    """Add the model card to the model's files, and a short one to the version's description."""
    from mlflow import MlflowClient

    client = MlflowClient()
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
        path = Path(scratch, card.FILE)
        path.write_text(card.full(facts), encoding="utf-8")
        client.log_model_artifact(logged.id, str(path))
    client.update_model_version(logged.name, logged.version, description=card.short(facts))


def copy(logged: Logged, folder: Path, facts: card.Facts | None = None) -> None:
    """Copy the registered model to a folder, atomically: the same bytes for the same classifier.

    So it is without what the registry alone decides: ids, times, the number of the version, and the commit. `facts` are
    those of its model card.
    """
    from mlflow.artifacts import download_artifacts

    with files.replacing(folder) as temporary:
        download_artifacts(f"models:/{logged.id}", dst_path=str(temporary))
        nameless.strip(temporary)
        if facts is not None:
            text = card.full(replace(facts, version=None, address=folder.as_posix()))
            (temporary / card.FILE).write_text(text, encoding="utf-8")


def size(folder: Path) -> int:
    """Return the size of a saved classifier in bytes."""
    return sum(path.stat().st_size for path in folder.iterdir())


def summary(result: Registration) -> str:
    """Return what became of the new version, in one line, and how to serve it."""
    if result.promoted:
        line = f"registered {result.name} version {result.version} as {result.alias} ({result.reason})"
    else:
        line = f"registered {result.name} version {result.version}; {result.alias} did not move ({result.reason})"
    address = shlex.quote(f"models:/{result.name}" + (f"@{result.alias}" if result.promoted else f"/{result.version}"))
    return (
        f"{line}\nserve it: flowerml serve {address}\n"
        f"with MLflow alone: mlflow models serve -m {address} --env-manager local"
    )


def check_name(name: str) -> None:
    """Raise ModelError for a name that MLflow does not accept, before anything is logged under it."""
    if not name.strip() or BAD_IN_NAME.intersection(name) or not name.isprintable() or len(name) > MAX_NAME:
        bad = " ".join(sorted(BAD_IN_NAME))
        raise ModelError(
            f"{printable(name)!r} is no name for a registered model: expected 1 to {MAX_NAME} characters, none of {bad}"
        )
