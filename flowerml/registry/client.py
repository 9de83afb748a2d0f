"""Reading the MLflow registry: the versions of models, and the files behind an address (models:/flowers@champion)."""

import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flowerml.core.display import one_line
from flowerml.core.errors import ModelError
from flowerml.core.urls import scrub, without_password
from flowerml.tracking import connection, database

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel


ADDRESS = re.compile("[a-z][a-z0-9+.-]+:/")
VERSION = re.compile(r"models:/([^/@]+)(?:/(\d+)|@([^/]+))")  # as people address registered versions
ATTEMPTS = 3  # to write a row that others may insert at the same time
T = TypeVar("T")


@dataclass(frozen=True)
class Version:
    """A registered version, in the keys of `flowerml models --json`; `created` is in seconds since 1970.

    A field is None where the version lacks its tag, as versions registered by hand do.
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
    """Return whether this is an MLflow address such as models:/flowers/3, not a path."""
    return ADDRESS.match(model) is not None


@contextmanager
def download_model(address: str) -> Iterator[Path]:
    """Yield the folder of files behind an address; a download is removed after the block. Raises ModelError."""
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
        with mlflow_errors(f"{address}: "), _temporary_files_in(scratch):
            from mlflow.artifacts import download_artifacts

            folder = Path(download_artifacts(artifact_uri=address))
        yield folder


def download_to(address: str, folder: Path) -> None:
    """Copy the files behind an address into an existing folder, also those that lie on this machine.

    Raises ModelError.
    """
    with mlflow_errors(f"{address}: "):
        from mlflow.artifacts import download_artifacts

        download_artifacts(artifact_uri=address, dst_path=str(folder))


def registered(address: str) -> "ModelVersion | None":
    """Return the version with an address, models:/NAME/VERSION or @ALIAS; None for another address.

    Raises ModelError where there is no such version.
    """
    parts = VERSION.fullmatch(address)
    if parts is None:
        return None
    name, number, alias = parts.groups()
    with mlflow_errors(f"{address}: "):
        from mlflow import MlflowClient

        client = MlflowClient()
        return client.get_model_version(name, number) if number else client.get_model_version_by_alias(name, alias)


def aliased_version(name: str, alias: str) -> "ModelVersion | None":
    """Return the version that has the alias, None where none has; raises ModelError where the registry is not there."""
    with mlflow_errors(f"models:/{name}@{alias}: "):
        from mlflow import MlflowClient

        return current_version(MlflowClient(), name, alias)


def versions(name: str | None = None) -> list[Version]:
    """Return all registered versions, or those of one model, sorted by name, newest first.

    Raises ModelError for an unknown name, and where the registry is missing or not responding.
    """
    with mlflow_errors():
        from mlflow import MlflowClient

        client = MlflowClient()
        models = {model.name: model for model in _pages(client.search_registered_models)}
        if name is not None and name not in models:
            raise ModelError(f"no registered model {name!r}; known are {', '.join(sorted(models)) or 'none yet'}")
        registered = all_versions(client, name)
    registered.sort(key=lambda version: (version.name, -int(version.version)))
    return [_version(version, models[version.name]) for version in registered]


@contextmanager
def mlflow_errors(subject: str = "") -> Iterator[None]:
    """Turn MLflow's errors into a ModelError of one line that starts with `subject`.

    A missing SQLite file raises one too: MLflow would create an empty database in the folder the command runs in.
    """
    connection.configure()
    import mlflow
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    store = mlflow.get_registry_uri()
    path = database.sqlite_path(store)
    if path is not None and not path.exists():
        raise ModelError(
            f"{subject}no MLflow registry at {store} (relative to {Path.cwd()}); run this in the project's folder, or "
            "set MLFLOW_TRACKING_URI"
        )
    connection.prepare_store(store)
    try:
        yield
    except (MlflowException, OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        reason = one_line(error, 300) or type(error).__name__
        raise ModelError(f"{subject}{reason} (registry: {scrub(without_password(store))})") from error


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Have temporary files made in `folder`.

    download_artifacts never removes what it downloads. Given a `dst_path` it would copy local files too, which it
    otherwise returns where they are.
    """
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def current_version(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    """Return the version that has the alias; None where none has."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):  # no such alias, or model
            return None
        raise


def retry_insert(write: Callable[[], T]) -> T:
    """Return what a write of an alias or a tag returns; call it again where another client inserts the same row.

    MLflow looks whether the row is there and inserts it where it is not. Of two clients that set a new alias at once,
    one gets the database's "duplicate key" (11 of 30 pairs on PostgreSQL); repeated, its write is an update.
    """
    from mlflow.exceptions import MlflowException

    for _ in range(ATTEMPTS - 1):
        try:
            return write()
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":  # what MLflow makes of an error of a database
                raise
    return write()


def set_version_tags(client: "MlflowClient", name: str, version: str, tags: Mapping[str, str]) -> None:
    """Set tags of a version."""
    for key, value in tags.items():
        retry_insert(partial(client.set_model_version_tag, name, version, key, value))


def version_exists(client: "MlflowClient", name: str, version: str) -> bool:
    """Return whether the model has this version."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def all_versions(client: "MlflowClient", name: str | None) -> "list[ModelVersion]":
    """Return MLflow's records of all versions, or of one model's."""
    return [version for version in _pages(client.search_model_versions) if name in (None, version.name)]


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield the results of all pages of one of MLflow's searches."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _version(record: "ModelVersion", model: "RegisteredModel") -> Version:
    number = int(record.version)
    accuracy = record.tags.get("accuracy")
    return Version(
        name=record.name,
        version=number,
        aliases=tuple(sorted(alias for alias, version in model.aliases.items() if int(version) == number)),
        accuracy=float(accuracy) if accuracy else None,
        data_digest=record.tags.get("data_digest"),
        verdict=record.tags.get("verdict"),
        reason=record.tags.get("reason"),
        created=record.creation_timestamp / 1000,
    )
