"""Registering a saved classifier as a version in the MLflow model registry."""

import json
import logging
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from flowerml.classifier import saved
from flowerml.classifier.classifier import TOP_K, Classifier
from flowerml.config.paths import PACKAGE
from flowerml.core import files
from flowerml.core.display import printable
from flowerml.core.errors import ModelError
from flowerml.registry import card, nameless, stored
from flowerml.registry.candidates import SOURCE
from flowerml.registry.client import retry_insert, set_version_tags
from flowerml.registry.gate import Candidate, Decision, Rule
from flowerml.registry.package import write_package
from flowerml.registry.signature import signature
from flowerml.tracking import runs
from flowerml.tracking.recovery import now

if TYPE_CHECKING:
    from flowerml.data.examples import Raw

# What a served model imports; torch alone would add 5.5 GB.
REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")
# MLflow refuses them in the name of a registered model or of a logged one, and the second only after some seconds;
# addresses (models:/NAME@ALIAS) read @ as the end of a name.
BAD_IN_NAME = frozenset("/:.%\"'@")
MAX_NAME = 250
VERSIONS = "mlflow.modelVersions"  # the tag of a logged model with its versions in the registry
NOTE = "mlflow.note.content"  # the tag with a description
CLASSIFIER = "classifier"  # the artifact of a model, and its folder, in which `locate` looks for it
MAX_MODEL_PARAM = 500  # characters
MAX_NOTE = 5000


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
    with (
        tempfile.TemporaryDirectory(prefix="flowerml-") as scratch,
        mlflow.start_run(run_id=run.run_id),
        _without_byte_code(),
    ):
        stored.write(Path(scratch, stored.FILE), classifier, [value])
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(PACKAGE / "serving" / "pyfunc.py"),
            artifacts={
                CLASSIFIER: str(_named(classifier, Path(scratch))),
                "answers": str(Path(scratch, stored.FILE)),
            },
            code_paths=[str(write_package(Path(scratch)))],
            signature=signature(column),
            input_example=(
                pd.DataFrame({column: [value]}),
                {"top_k": TOP_K, "explain": False},
            ),
            pip_requirements=[
                f"{package}=={version(package)}" for package in (*REQUIREMENTS, *classifier.preprocessing.packages)
            ],
            params=_params(classifier),
        )
    return Logged(name, _new_version(run, name, logged.model_id), logged.model_id)


def _named(classifier: Classifier, scratch: Path) -> Path:
    """Return a folder with the classifier's own files, whose name is the one that MLflow takes over into the model.

    What else lies in the classifier's folder, such as a person's notes or a link to a key, is not handed on.
    """
    names = saved.names(classifier.description)
    if classifier.folder.name == CLASSIFIER and {path.name for path in classifier.folder.iterdir()} == set(names):
        return classifier.folder
    folder = scratch / CLASSIFIER
    folder.mkdir()
    for name in names:
        shutil.copyfile(classifier.folder / name, folder / name)
    return folder


@contextmanager
def _without_byte_code() -> Iterator[None]:
    """Keep Python from writing byte code beside the code of a model, which MLflow imports there: it holds the time."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _params(classifier: Classifier) -> dict[str, str]:
    """Return the parameters that MLflow shows on a logged model's page, as long as it accepts them."""
    parameters = classifier.description["parameters"].items()
    return {name: str(value)[:MAX_MODEL_PARAM] for name, value in parameters if value is not None}


def _new_version(run: runs.Run, name: str, model_id: str) -> str:
    """Register a logged model; return the number of the version.

    Not by `registered_model_name` in `log_model`, which prints two lines that the log of `dvc repro` has no use for.
    """
    from mlflow.exceptions import MlflowException

    try:
        run.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model_id}"
    create = partial(run.client.create_model_version, name, source, run.run_id, model_id=model_id)
    number = str(retry_insert(create).version)
    # So the page of the logged model links the version, as it does after MLflow's own `register_model`.
    run.client.set_logged_model_tags(model_id, {VERSIONS: json.dumps([{"name": name, "version": number}])})
    return number


def measure(run: runs.Run, logged: Logged, metrics: Mapping[str, float], *, dataset: str, digest: str) -> None:
    """Log the metrics of a data set to the run and to the logged model, where `search_logged_models` looks for them."""
    from mlflow.entities import Metric

    time = now()
    measured = [
        Metric(
            name,
            value,
            time,
            0,
            model_id=logged.id,
            dataset_name=dataset,
            dataset_digest=digest[: runs.MAX_DIGEST],
            run_id=run.run_id,
        )
        for name, value in metrics.items()
    ]
    run.client.log_batch(run.run_id, metrics=measured)


def describe(logged: Logged, candidate: Candidate, tags: Mapping[str, str]) -> None:
    """Tag a version with its lineage and with what the gate will compare of it."""
    from mlflow import MlflowClient

    values = {
        "accuracy": candidate.accuracy,
        "test_digest": candidate.test_digest,
        "classes": json.dumps(candidate.classes),
        "ece": candidate.ece,
        "classifier_bytes": candidate.size,
        SOURCE: candidate.source,
        **tags,
    }
    known = {key: str(value) for key, value in values.items() if value is not None}
    set_version_tags(MlflowClient(), logged.name, logged.version, known)


def add_card(logged: Logged, facts: card.Facts) -> None:
    """Add the model card to the model's files, a short one to the version's description, and that of the model."""
    from mlflow import MlflowClient

    client = MlflowClient()
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
        path = Path(scratch, card.FILE)
        path.write_text(card.full(facts), encoding="utf-8")
        client.log_model_artifact(logged.id, str(path))
    client.update_model_version(logged.name, logged.version, description=card.short(facts))
    if not client.get_registered_model(logged.name).description:  # else a person's own words
        client.update_registered_model(logged.name, card.of_model(facts))


def add_title(logged: Logged, candidate: Candidate, decision: Decision) -> str:
    """Put a line that tells a version from others above its description, and into its tags; return the line."""
    from mlflow import MlflowClient

    client = MlflowClient()
    line = title(candidate, decision)
    description = client.get_model_version(logged.name, logged.version).description or ""
    # Without markup: the table of versions shows the first line as it is.
    client.update_model_version(logged.name, logged.version, description=f"{line}\n\n{description}")
    set_version_tags(client, logged.name, logged.version, {"title": line})
    note = f"**{logged.name} {line}**: {decision.reason}. Its model card is among the artifacts."
    client.set_logged_model_tags(logged.id, {"title": line, NOTE: note[:MAX_NOTE]})
    return line


def title(candidate: Candidate, decision: Decision) -> str:
    """Return number, accuracy on test, and the difference to the champion that the gate compared it with.

    >>> new = Candidate("2", accuracy=0.956, test_digest="a", classes=("x",), answers=None, ece=None, size=1)
    >>> title(new, Decision(True, "", (Rule("accuracy", True, 0.956, 0.953, ""),)))
    'v2 · test 0.956 · +0.003'
    """
    parts = [f"v{candidate.version}"]
    if candidate.accuracy is not None:
        parts.append(f"test {candidate.accuracy:.3f}")
    for rule in decision.rules:
        if rule.name == "accuracy" and rule.value is not None and rule.limit is not None:
            parts.append(f"{rule.value - rule.limit:+.3f}")
    return " · ".join(parts)


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


def size(classifier: Classifier) -> int:
    """Return the size of a classifier's own files in bytes."""
    return sum((classifier.folder / name).stat().st_size for name in saved.names(classifier.description))


def summary(result: Registration) -> str:
    """Return what became of the new version, in one line."""
    if result.promoted:
        return f"registered {result.name} version {result.version} as {result.alias} ({result.reason})"
    return f"registered {result.name} version {result.version}; {result.alias} did not move ({result.reason})"


def advice(result: Registration) -> str:
    """Return how to serve the new version, with flowerml and with MLflow alone."""
    address = shlex.quote(f"models:/{result.name}" + (f"@{result.alias}" if result.promoted else f"/{result.version}"))
    return (
        f"serve it: flowerml serve {address}\nwith MLflow alone: mlflow models serve -m {address} --env-manager local"
    )


def check_name(name: str) -> None:
    """Raise ModelError for a name that MLflow does not accept, before anything is logged under it."""
    if not name.strip() or BAD_IN_NAME.intersection(name) or not name.isprintable() or len(name) > MAX_NAME:
        bad = " ".join(sorted(BAD_IN_NAME))
        raise ModelError(
            f"{printable(name)!r} is no name for a registered model: expected 1 to {MAX_NAME} characters, none of {bad}"
        )
