"""The only module that records runs in MLflow. Runs are named by their ids, so nothing depends on an active one."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowerml.addresses import without_password
from flowerml.errors import FlowermlError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from flowerml.fit import Epoch

DEFAULT_URI = "sqlite:///mlflow.db"
LONGEST_PARAMETER = 6000
METRICS_IN_ONE_CALL = 1000
SECONDS_BETWEEN_SENDING = 2.0
# What the UI sets when a person chooses the view of runs and curves instead of the one of traces and prompts.
TRAINING_VIEW = {"mlflow.experimentKind": "custom_model_development"}


def configure() -> None:
    """Point MLflow at MLFLOW_TRACKING_URI, by default a database in this folder; no telemetry, no endless retries."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # With MLflow's own defaults one call to a server that is down hangs for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    import mlflow

    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI))


def check() -> None:
    """See that runs can be recorded; raises FlowermlError, one line, where they cannot."""
    configure()
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        MlflowClient().search_experiments(max_results=1)
    except (MlflowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        uri = without_password(mlflow.get_tracking_uri())
        raise FlowermlError(f"runs cannot be recorded in MLflow at {uri}: {reason}; set MLFLOW_TRACKING_URI") from error


@dataclass(frozen=True)
class Run:
    """One MLflow run."""

    client: "MlflowClient"
    id: str
    experiment: str
    _waiting: "list[Metric]" = field(default_factory=list, repr=False)
    _sent: list[float] = field(default_factory=lambda: [time.monotonic()], repr=False)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters by their dotted names."""
        from mlflow.entities import Param

        entries = [Param(name, str(value)[:LONGEST_PARAMETER]) for name, value in values.items()]
        self.client.log_batch(self.id, params=entries)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step. They are sent at least every SECONDS_BETWEEN_SENDING, and when the run ends.

        A call to the store takes longer than an epoch of a small network.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting.extend(Metric(name, value, now, step) for name, value in values.items())
        if time.monotonic() - self._sent[0] > SECONDS_BETWEEN_SENDING:
            self.send()

    def send(self) -> None:
        """Send the metrics that wait."""
        for start in range(0, len(self._waiting), METRICS_IN_ONE_CALL):
            self.client.log_batch(self.id, metrics=self._waiting[start : start + METRICS_IN_ONE_CALL])
        self._waiting.clear()
        self._sent[0] = time.monotonic()

    def epoch(self, epoch: "Epoch") -> None:
        """Log what an epoch gave, at its number."""
        values = asdict(epoch)
        self.metrics(values, step=values.pop("number"))

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.id, tags=[RunTag(name, str(value)) for name, value in values.items()])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or what is in a folder."""
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), folder)
        else:
            self.client.log_artifact(self.id, str(path), folder)

    @contextmanager
    def child(self, name: str, tags: Mapping[str, str]) -> Iterator["Run"]:
        """A run under this one."""
        with _opened(self.client, self.experiment, name, {**tags, "mlflow.parentRunId": self.id}) as run:
            yield run


@contextmanager
def run(experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    """A run in an experiment, which is made where it is missing.

    It ends FINISHED; FAILED with the tag `reason` after an error; KILLED after Ctrl-C.
    """
    configure()
    from mlflow import MlflowClient

    client = MlflowClient()
    known = client.get_experiment_by_name(experiment)
    experiment_id = known.experiment_id if known else client.create_experiment(experiment, tags=TRAINING_VIEW)
    if known and known.lifecycle_stage == "deleted":
        client.restore_experiment(experiment_id)
    with _opened(client, experiment_id, name, tags) as opened:
        yield opened


@contextmanager
def _opened(client: "MlflowClient", experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    from mlflow.tracking.context.registry import resolve_tags

    created = client.create_run(experiment, run_name=name, tags=resolve_tags(dict(tags)))
    opened = Run(client, created.info.run_id, experiment)
    try:
        yield opened
    except KeyboardInterrupt:
        opened.send()
        client.set_terminated(opened.id, "KILLED")
        raise
    except BaseException as error:
        opened.send()
        opened.tags({"reason": " ".join(str(error).split())[:500] or type(error).__name__})
        client.set_terminated(opened.id, "FAILED")
        raise
    opened.send()
    client.set_terminated(opened.id, "FINISHED")
