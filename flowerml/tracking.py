"""The only module that records runs in MLflow. Runs are named by their ids, so nothing depends on an active one."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from flowerml.fit import Epoch

DEFAULT_URI = "sqlite:///mlflow.db"
LONGEST_PARAMETER = 6000


def configure() -> None:
    """Point MLflow at MLFLOW_TRACKING_URI, by default a database in this folder; no telemetry, no endless retries."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # With MLflow's own defaults one call to a server that is down hangs for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    import mlflow

    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI))


@dataclass(frozen=True)
class Run:
    """One MLflow run."""

    client: "MlflowClient"
    id: str
    experiment: str

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters by their dotted names."""
        from mlflow.entities import Param

        entries = [Param(name, str(value)[:LONGEST_PARAMETER]) for name, value in values.items()]
        self.client.log_batch(self.id, params=entries)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

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
    experiment_id = known.experiment_id if known else client.create_experiment(experiment)
    with _opened(client, experiment_id, name, tags) as opened:
        yield opened


@contextmanager
def _opened(client: "MlflowClient", experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    created = client.create_run(experiment, run_name=name, tags=dict(tags))
    opened = Run(client, created.info.run_id, experiment)
    try:
        yield opened
    except KeyboardInterrupt:
        client.set_terminated(opened.id, "KILLED")
        raise
    except BaseException as error:
        opened.tags({"reason": " ".join(str(error).split())[:500] or type(error).__name__})
        client.set_terminated(opened.id, "FAILED")
        raise
    client.set_terminated(opened.id, "FINISHED")
