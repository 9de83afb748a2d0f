"""The only module that records runs in MLflow. Runs are named by their ids, so nothing depends on an active one."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError
from flowerml.core.locks import hold_lock, try_lock
from flowerml.core.urls import without_password
from flowerml.tracking.journal import Journal
from flowerml.tracking.mirror import Mirror, reference, say

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from flowerml.engine.fit import Epoch

T = TypeVar("T")

WORK = Path(".flowerml")
JOURNAL = ".jsonl"
UNSENT = "unsent"
SQLITE = "sqlite:///"
DEFAULT_URI = f"{SQLITE}mlflow.db"
LONGEST_PARAMETER = 6000
LONGEST_DIGEST = 36
LONGEST_ANSWER = 15.0  # seconds, of a server at the start
# What the UI sets when a person chooses the view of runs and curves instead of the one of traces and prompts.
TRAINING_VIEW = {"mlflow.experimentKind": "custom_model_development"}


def configure() -> None:
    """Point MLflow at MLFLOW_TRACKING_URI, by default a database in this folder; no telemetry, no endless retries."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # With MLflow's own defaults one call to a server that is down hangs for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    import mlflow

    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI))


def check() -> None:
    """See that runs can be recorded; raises FlowermlError, one line, where they cannot."""
    configure()
    from mlflow import MlflowClient

    _answered(lambda: MlflowClient().search_experiments(max_results=1))


@dataclass(frozen=True)
class Run:
    """One MLflow run, by its key in a journal: what it is told is on disk at once, and sent beside the work."""

    client: "MlflowClient"
    experiment: str
    key: str
    journal: Journal
    mirror: Mirror

    @property
    def id(self) -> str:
        """MLflow's own id; raises FlowermlError where the server, which has to give it, is not answering."""
        if self.key not in self.journal.ids:
            self.mirror.flush()
        found = self.journal.ids.get(self.key)
        if found is None:
            raise FlowermlError(f"MLflow is not answering ({self.mirror.problem}); say the same again when it is back")
        return found

    def reference(self, child: str) -> str:
        """Stands for the id of a child in the values of tags, whether MLflow has already given one or not."""
        return reference(f"{self.key}/{child}")

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters by their dotted names."""
        self.journal.log(self.key, params=[(name, str(value)[:LONGEST_PARAMETER]) for name, value in values.items()])

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step."""
        now = _now()
        self.journal.log(self.key, metrics=[(name, value, now, step) for name, value in values.items()])

    def epoch(self, epoch: "Epoch") -> None:
        """Log what an epoch gave, at its number."""
        values = asdict(epoch)
        self.metrics(values, step=values.pop("number"))

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags."""
        self.journal.log(self.key, tags=[(name, str(value)) for name, value in values.items()])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or what is in a folder, at once."""
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        log(self.id, str(path), folder)

    def dataset(
        self,
        *,
        name: str,
        context: str,
        digest: str,
        source_type: str,
        source: Mapping[str, str],
        schema: Mapping[str, Any],
        profile: Mapping[str, int],
    ) -> None:
        """Log which data went in, and as what (`context`); of `digest` MLflow keeps the first 36 characters."""
        texts = {
            key: json.dumps(value) for key, value in (("source", source), ("schema", schema), ("profile", profile))
        }
        first = {"name": name, "digest": digest[:LONGEST_DIGEST], "source_type": source_type, "context": context}
        self.journal.data(self.key, {**first, **texts})

    @contextmanager
    def child(self, name: str, tags: Mapping[str, str]) -> Iterator["Run"]:
        """A run under this one."""
        inner = replace(self, key=f"{self.key}/{name}")
        with _opened(inner, name, {**tags, "mlflow.parentRunId": reference(self.key)}) as run:
            yield run


@contextmanager
def run(experiment: str, name: str, tags: Mapping[str, str], *, resume: str | None = None) -> Iterator[Run]:
    """A run in an experiment, which is made where it is missing.

    It ends FINISHED; FAILED with the tag `reason` after an error; KILLED after Ctrl-C. Where MLflow is not answering at
    the start that is a FlowermlError within seconds; from then on the work does not wait for it, and what it could not
    be told is kept in .flowerml/runs, and sent when a run begins here the next time. Then, too, the runs that a killed
    process left behind end as KILLED.

    With `resume`, a name for all that a result depends on, such a run is gone on with instead, its children too; it
    counts as interrupted until `forget` is called.
    """
    configure()
    from mlflow import MlflowClient

    path = _folder() / f"{quote(experiment, safe=' ')}.{name}{JOURNAL}"
    with hold_lock(
        path.with_suffix(".lock"),
        waiting=f"{experiment}: another process records a run {name!r} here; waiting for its end",
    ):
        client = _answered(MlflowClient)
        experiment_id = _answered(lambda: _experiment(client, experiment))
        _settle(client, path, resume)
        journal = Journal(path, server=_server(), experiment=experiment_id, resume=resume or "")
        mirror = Mirror(journal, client, server=_server())
        opened = Run(client, experiment_id, name, journal, mirror)
        try:
            with _opened(opened, name, tags):
                _ = opened.id  # the last moment at which a server that is not there is an error
                yield opened
        finally:
            _put_away(journal, mirror, keep=resume is not None)


def forget(experiment: str, name: str) -> None:
    """A run that was begun with `resume` has served: the next of this name is a new one."""
    path = _folder() / f"{quote(experiment, safe=' ')}.{name}{JOURNAL}"
    if path.exists():
        journal = Journal(path)
        _put_away(journal, None, keep=False)


@contextmanager
def _opened(run: Run, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    from mlflow.tracking.context.registry import resolve_tags

    run.journal.create(run.key, name=name, tags=resolve_tags(dict(tags)), time=_now())
    try:
        yield run
    except KeyboardInterrupt:
        run.journal.end(run.key, "KILLED", time=_now())
        raise
    except BaseException as error:
        run.tags({"reason": one_line(error, 500) or type(error).__name__})
        run.journal.end(run.key, "FAILED", time=_now())
        raise
    run.journal.end(run.key, "FINISHED", time=_now())


def _settle(client: "MlflowClient", own: Path, resume: str | None) -> None:
    """Send what earlier processes could not, and end the runs of those that were killed.

    Not of those that are still at work, nor what is for another server, nor the run that is gone on with.
    """
    _settle_one(client, own, resume)
    for path in set(own.parent.glob(f"*{JOURNAL}")) - {own}:
        with try_lock(path.with_suffix(".lock")) as ours:
            if ours:
                _settle_one(client, path, None)
    with try_lock(own.parent / f"{UNSENT}.lock") as ours:
        for path in own.parent.glob(f"{UNSENT}/*{JOURNAL}") if ours else ():
            _settle_one(client, path, None)


def _settle_one(client: "MlflowClient", path: Path, resume: str | None) -> None:
    if not path.exists():
        return
    journal = Journal(path)
    ours = journal.facts.get("server") == _server()
    if ours and resume is not None and journal.facts["resume"] == resume:
        journal.close()
        if not _known(client, journal):
            say(f"MLflow at {_server()} has lost the run {journal.name!r} that is gone on with; a new one begins")
            path.unlink()
        return
    for run in journal.open_runs:
        journal.log(run, tags=[("reason", "its process was killed")])
        journal.end(run, "KILLED", time=_now())
    _put_away(journal, Mirror(journal, client, server=_server()) if ours else None, keep=False)


def _known(client: "MlflowClient", journal: Journal) -> bool:
    """Whether the server still has the first run of a journal; it may also never have been told of it."""
    from mlflow.exceptions import MlflowException

    try:
        return journal.name not in journal.ids or bool(client.get_run(journal.ids[journal.name]))
    except MlflowException as error:
        return error.error_code != "RESOURCE_DOES_NOT_EXIST"


def _put_away(journal: Journal, mirror: Mirror | None, *, keep: bool) -> None:
    """Send what is left, where there is a mirror; what cannot be sent waits in a folder for the next time."""
    whole = mirror.close() if mirror else not journal.missing
    journal.close()
    path = journal.path
    if whole and not keep:
        path.unlink()
    if not whole and not keep:
        path = path.parent if path.parent.name == UNSENT else path.parent / UNSENT
        path.mkdir(exist_ok=True)
        path = journal.path.replace(path / f"{journal.facts['id']}{JOURNAL}")
    if not whole:
        server = journal.facts.get("server", "")
        kept = f"{journal.missing} entries are kept in {path}, to be sent when a run begins here the next time"
        say(f"MLflow at {server} has not been told everything of the run {journal.name!r}: {kept}")


def _experiment(client: "MlflowClient", name: str) -> str:
    known = client.get_experiment_by_name(name)
    if known is None:
        return str(client.create_experiment(name, tags=TRAINING_VIEW))
    if known.lifecycle_stage == "deleted":
        client.restore_experiment(known.experiment_id)
    return str(known.experiment_id)


def _answered(ask: Callable[[], T]) -> T:
    """What MLflow answers; raises FlowermlError, one line, where it does not, or a server not within LONGEST_ANSWER."""
    from mlflow.exceptions import MlflowException

    found: Future[T] = Future()

    def answer() -> None:
        try:
            found.set_result(ask())
        except BaseException as error:
            found.set_exception(error)

    # Not an executor's thread: of those the interpreter waits for the end.
    Thread(target=answer, daemon=True).start()
    try:
        # To make a database takes its time, and nobody else can make it come sooner.
        return found.result(LONGEST_ANSWER if _server().startswith("http") else None)
    except TimeoutError:
        reason = f"no answer within {LONGEST_ANSWER:g} s"
    except (MlflowException, OSError, ValueError) as error:
        reason = one_line(error, 300)
    raise FlowermlError(f"runs cannot be recorded in MLflow at {_server()}: {reason}; set MLFLOW_TRACKING_URI")


def _folder() -> Path:
    """Where the journals are; git passes it over."""
    WORK.mkdir(exist_ok=True)
    if not (WORK / ".gitignore").exists():
        (WORK / ".gitignore").write_text("*\n")
    return WORK / "runs"


def _server() -> str:
    """The place of the runs, the same however it is written, and without a password."""
    uri = without_password(os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI))
    file = uri.removeprefix(SQLITE)
    return uri if file == uri else f"{SQLITE}{Path(file).resolve()}"


def _now() -> int:
    return int(time.time() * 1000)
