"""What the MLflow registry holds: versions of models, and the files behind an address (models:/flowers@champion)."""

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowerml.core.display import one_line
from flowerml.core.errors import ModelError
from flowerml.core.urls import without_password
from flowerml.tracking import connection

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel


ADDRESS = re.compile("[a-z][a-z0-9+.-]+:/")
SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Version:
    """A registered version; None stands for what a version that was registered by hand does not tell.

    `created` is in seconds since 1970.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    accuracy: float | None
    data_digest: str | None
    verdict: str | None
    reason: str | None
    created: float


def is_address(model: str) -> bool:
    """Whether this is an address of MLflow's, and not a path."""
    return ADDRESS.match(model) is not None


@contextmanager
def download_model(address: str) -> Iterator[Path]:
    """The folder of files behind an address; a copy of remote ones is removed after the block. Raises ModelError."""
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
        with mlflow_errors(f"{address}: "), _temporary_files_in(scratch):
            from mlflow.artifacts import download_artifacts

            folder = Path(download_artifacts(artifact_uri=address))
        yield folder


def versions(name: str | None = None) -> list[Version]:
    """All registered versions, or those of one model, by name and newest first.

    Raises ModelError where no model has this name, and where there is no registry, or none that answers.
    """
    with mlflow_errors():
        from mlflow import MlflowClient

        client = MlflowClient()
        models = {model.name: model for model in _pages(client.search_registered_models)}
        if name is not None and name not in models:
            raise ModelError(f"no registered model {name!r}; there are {', '.join(sorted(models)) or 'none yet'}")
        found = all_versions(client, name)
    found.sort(key=lambda one: (one.name, -int(one.version)))
    return [_version(one, models[one.name]) for one in found]


@contextmanager
def mlflow_errors(subject: str = "") -> Iterator[None]:
    """MLflow's errors as a ModelError of one line; one, too, where MLflow would make an empty database."""
    connection.configure()
    import mlflow
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    store = mlflow.get_registry_uri()
    if store.startswith(SQLITE) and not Path(store.removeprefix(SQLITE)).exists():
        raise ModelError(
            f"{subject}no MLflow registry at {store} (seen from {Path.cwd()}): run this in the project's folder, or "
            "set MLFLOW_TRACKING_URI"
        )
    try:
        yield
    except (MlflowException, OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        reason = one_line(error, 300) or type(error).__name__
        raise ModelError(f"{subject}{reason} (in the registry at {without_password(store)})") from error


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """MLflow leaves its downloads among the temporary files; local files it takes where they are."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def all_versions(client: "MlflowClient", name: str | None) -> "list[ModelVersion]":
    """All versions as MLflow has them, or those of one model."""
    return [one for one in _pages(client.search_model_versions) if name in (None, one.name)]


def _pages(search: Any) -> Iterator[Any]:
    """All that a search of MLflow's finds."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _version(found: "ModelVersion", model: "RegisteredModel") -> Version:
    accuracy = found.tags.get("accuracy")
    return Version(
        name=found.name,
        version=int(found.version),
        aliases=tuple(sorted(alias for alias, version in model.aliases.items() if int(version) == int(found.version))),
        accuracy=float(accuracy) if accuracy else None,
        data_digest=found.tags.get("data_digest"),
        verdict=found.tags.get("verdict"),
        reason=found.tags.get("reason"),
        created=found.creation_timestamp / 1000,
    )
