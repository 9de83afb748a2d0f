"""The MLflow server: which one it is, and whether it responds."""

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from flowerml.core import os_errors
from flowerml.core.errors import FlowermlError
from flowerml.core.urls import without_password
from flowerml.tracking import database, experiment, postgres, relocation

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

SQLITE = "sqlite:///"
DEFAULT_PATH = Path("mlflow.db")
DEFAULT_URI = f"{SQLITE}{DEFAULT_PATH}"
RESPONSE_TIMEOUT = 15.0  # seconds, for the first call to a server


def configure() -> None:
    """Point MLflow at MLFLOW_TRACKING_URI, by default a database in this folder; no telemetry, no endless retries."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # Two lines for each trial, for which it asks the server once more.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # With MLflow's own defaults one call to a server that is down hangs for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    import mlflow

    # It logs a stack trace of every error of a database, which is raised as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    mlflow.set_tracking_uri(uri())


def check() -> None:
    """Check that runs can be recorded. Raises FlowermlError, one line, where they cannot."""
    configure()
    from mlflow import MlflowClient

    prepare()
    first_call(lambda: MlflowClient().search_experiments(max_results=1))


def prepare() -> None:
    """Create a missing database's tables as a whole; repair a SQLite database that was left half-made, or was moved."""
    prepare_store(uri())


def prepare_store(store: str) -> None:
    """Do so for any URI of MLflow's."""
    if store.startswith("postgresql"):
        postgres.prepare(store)
        return
    database.prepare(store)
    path = database.sqlite_path(store)
    if path is not None:
        relocation.mend(path)


def first_call(call: Callable[[], T]) -> T:
    """Return what MLflow returns. Raises FlowermlError where it fails, or a server is silent for RESPONSE_TIMEOUT."""
    from mlflow.exceptions import MlflowException

    future: Future[T] = Future()

    def resolve() -> None:
        try:
            future.set_result(_waiting_for_lock(call))
        except BaseException as error:
            future.set_exception(error)

    # Not a thread of an executor: the interpreter waits for those before it exits.
    Thread(target=resolve, daemon=True).start()
    try:
        # No timeout for a database: creating one takes a while, and another command would wait as long.
        return future.result(RESPONSE_TIMEOUT if address().startswith("http") else None)
    except TimeoutError:
        reason = f"no answer within {RESPONSE_TIMEOUT:g} s"
    except (MlflowException, OSError, ValueError) as error:
        if line := os_errors.explain_full_disk(error):
            raise FlowermlError(f"{address()}: {line}") from None
        reason = os_errors.reason(error)
    raise FlowermlError(f"runs cannot be recorded in MLflow at {address()}: {reason}; set MLFLOW_TRACKING_URI")


def _waiting_for_lock(call: Callable[[], T]) -> T:
    """Call again while another process holds SQLite's lock: MLflow waits 5 s for it on connecting, 20 s later."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    end = time.monotonic() + database.BUSY
    while True:
        try:
            return call()
        except (MlflowException, OperationalError) as error:
            if "database is locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.5)


def experiment_id(client: "MlflowClient", name: str) -> str:
    """Return the id of an experiment, creating or restoring it where needed.

    Others may do the same at once, so only the state afterwards decides whether a call has failed.
    """
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    try:
        if known is None:
            return str(client.create_experiment(name, artifact_location(name), experiment.tags(name)))
        if known.lifecycle_stage == "deleted":
            client.restore_experiment(known.experiment_id)
    except MlflowException:
        known = client.get_experiment_by_name(name)
        if known is None or known.lifecycle_stage == "deleted":
            raise
    return str(known.experiment_id)


def artifact_location(experiment_name: str) -> str | None:
    """Return where an experiment's artifacts go: where MLflow chooses, but for two cases.

    A database without a server between knows no place that its users share, and they name one as `mlflow server` has
    it, in MLFLOW_DEFAULT_ARTIFACT_ROOT. MLflow decodes the path of its default, the folder mlruns here, and would write
    to another folder where this one's name has to be encoded.
    """
    root, name = os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT"), quote(experiment_name, safe="")
    if root and uri().startswith("postgresql"):
        return f"{root.rstrip('/')}/{name}"
    folder = Path.cwd() / "mlruns"
    is_local = database.sqlite_path(uri()) is not None
    is_plain = not any(character in str(folder) for character in "%?#")
    return None if is_plain or not is_local else (folder / name).as_uri()


def uri() -> str:
    """Return MLFLOW_TRACKING_URI, with the driver of a database; a path with % or ? that is not encoded is encoded.

    Jenkins names the folder of a branch `job@feature%2Fx`. SQLAlchemy decodes what follows sqlite:///, so MLflow would
    look for `job@feature/x`, retry for two minutes and report that it may not read that.
    """
    given = postgres.with_driver(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    decoded = database.sqlite_path(given)
    literal = Path(given.removeprefix(SQLITE))
    folder = str(literal.parent)
    if decoded is None or not literal.parent.is_dir():
        return given
    is_query = "?" in folder  # SQLAlchemy cuts the path off there
    is_encoded = "%" in folder and decoded.parent.is_dir()
    return database.sqlite_uri(literal) if is_query or ("%" in folder and not is_encoded) else given


def is_default() -> bool:
    """Return whether runs are recorded in mlflow.db in this folder."""
    path = database.sqlite_path(uri())
    return path is not None and path.resolve() == DEFAULT_PATH.resolve()


def address() -> str:
    """Return where runs are recorded, without a password; a SQLite database is always given by its absolute path."""
    store = uri()
    if store.startswith("postgresql"):
        return postgres.without_login(store)
    path = database.sqlite_path(store)
    return without_password(store) if path is None else f"{SQLITE}{path.resolve()}"
