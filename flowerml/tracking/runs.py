"""Runs of MLflow, on disk at once and sent beside the work; the only module that records any.

Not MLflow's fluent API (`mlflow.log_metric`): it needs an active run and waits for the server in every call. Runs are
named by keys instead, and what is logged goes through a journal (a write-ahead log) and a mirror (a thread).
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.core import os_errors
from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError
from flowerml.core.locks import hold_lock
from flowerml.core.urls import scrub
from flowerml.tracking import connection
from flowerml.tracking.journal import Journal
from flowerml.tracking.mirror import NAME, Mirror, reference
from flowerml.tracking.recovery import archive, journal_path, now, recover

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from flowerml.engine.fit import Epoch

# MLflow's limits, in characters.
MAX_PARAM = 6000
MAX_DIGEST = 36


@dataclass(frozen=True)
class Run:
    """One MLflow run, by its key in a journal: what is logged is on disk at once, and sent in the background."""

    client: "MlflowClient"
    experiment_id: str
    key: str
    journal: Journal
    mirror: Mirror

    @property
    def run_id(self) -> str:
        """Return MLflow's id. Raises FlowermlError where the server, which assigns it, is not responding."""
        if self.key not in self.journal.ids:
            self.mirror.flush()
        run_id = self.journal.ids.get(self.key)
        if run_id is None:
            problem = self.mirror.problem
            if line := os_errors.explain_full_disk(RuntimeError(problem)):
                raise FlowermlError(f"{connection.address()}: {line}")
            raise FlowermlError(f"MLflow is not responding ({problem}); re-run the command when it is back")
        return run_id

    def reference(self, child: str) -> str:
        """Return a placeholder for a child's id in the values of tags; it need not have one yet."""
        return reference(f"{self.key}/{child}")

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters by their dotted names."""
        self.journal.log(self.key, params=[(name, str(value)[:MAX_PARAM]) for name, value in values.items()])

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at a step."""
        time = now()
        self.journal.log(self.key, metrics=[(name, value, time, step) for name, value in values.items()])

    def epoch(self, epoch: "Epoch") -> None:
        """Log the metrics of an epoch, with its number as the step; those that are not defined are left out."""
        values = asdict(epoch)
        del values["chosen"]  # part of the trial's score
        step = values.pop("number")
        self.metrics({name: value for name, value in values.items() if not math.isnan(value)}, step=step)

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags."""
        self.journal.log(self.key, tags=[(name, scrub(str(value))) for name, value in values.items()])

    def rename(self, name: str) -> None:
        """Show another name in MLflow. The run is still known here, and resumed, by its key."""
        self.tags({NAME: name})

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or the contents of a folder, at once."""
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        log(self.run_id, str(path), folder)

    def dataset(
        self,
        *,
        name: str,
        context: str,
        digest: str,
        source_type: str,
        source: Mapping[str, str],
        schema: Mapping[str, object],
        profile: Mapping[str, int],
    ) -> None:
        """Log a data set and its use (`context`); MLflow keeps the first 36 characters of `digest`."""
        values = {
            "name": name,
            "digest": digest[:MAX_DIGEST],
            "source_type": source_type,
            "context": context,
            "source": json.dumps(source),
            "schema": json.dumps(schema),
            "profile": json.dumps(profile),
        }
        self.journal.log_dataset(self.key, values)

    @contextmanager
    def child(self, name: str, tags: Mapping[str, str]) -> Iterator["Run"]:
        """Start a run under this one."""
        child = replace(self, key=f"{self.key}/{name}")
        with _started(child, name, {**tags, "mlflow.parentRunId": reference(self.key)}) as run:
            yield run


@contextmanager
def run(experiment: str, name: str, tags: Mapping[str, str], *, resume: str | None = None) -> Iterator[Run]:
    """Start a run in an experiment, which is created where it is missing.

    The run ends FINISHED; FAILED, with the tag `reason`, after an error; KILLED after Ctrl-C. Runs that a killed
    process left behind are ended as KILLED first. Raises FlowermlError within seconds where MLflow is not responding at
    the start; later the work does not wait for it: what cannot be sent is kept in .flowerml/runs and sent when the next
    run starts here.

    With `resume`, a fingerprint of all that a result depends on, an interrupted run of the same fingerprint is resumed,
    its children too. It counts as interrupted until `finish_resumable` is called.
    """
    connection.configure()
    from mlflow import MlflowClient

    path = journal_path(experiment, name)
    with hold_lock(
        path.with_suffix(".lock"),
        waiting=f"{experiment}: another process is recording a run {name!r} here; waiting for it to end",
    ):
        connection.prepare()
        client = connection.first_call(MlflowClient)
        experiment_id = connection.first_call(lambda: connection.experiment_id(client, experiment))
        recover(client, path, resume)
        server = connection.address()
        journal = Journal(path, server=server, experiment=experiment_id, resume=resume or "")
        mirror = Mirror(journal, client, server=server)
        run = Run(client, experiment_id, name, journal, mirror)
        try:
            with _started(run, name, tags):
                _ = run.run_id  # the last moment at which a missing server is an error
                yield run
        finally:
            archive(journal, mirror, keep=resume is not None)


def finish_resumable(experiment: str, name: str) -> dict[str, str]:
    """Let the next run of this name be a new one: the result of the one started with `resume` is saved.

    Return MLflow's ids of the run and its children, by their keys, as far as the server has given them.
    """
    path = journal_path(experiment, name)
    if not path.exists():
        return {}
    journal = Journal(path)
    ids = dict(journal.ids)
    archive(journal, None, keep=False)
    return ids


@contextmanager
def _started(run: Run, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    from mlflow.tracking.context.registry import resolve_tags

    # MLflow adds git's remote, in which CI systems have a token: https://oauth2:…@host/repository.
    resolved = {tag: scrub(str(value)) for tag, value in resolve_tags(dict(tags)).items()}
    run.journal.create(run.key, name=name, tags=resolved, time=now())
    try:
        yield run
    except KeyboardInterrupt:
        run.journal.end(run.key, "KILLED", time=now())
        raise
    except BaseException as error:
        run.tags({"reason": one_line(error, 500) or type(error).__name__})
        run.journal.end(run.key, "FAILED", time=now())
        raise
    run.journal.end(run.key, "FINISHED", time=now())
