"""Versions in a real registry that want one alias, and a process that takes the steps of a submission when asked."""

import json
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from flowerml.config.params import Gate

if TYPE_CHECKING:
    from mlflow import MlflowClient

LIMITS = Gate(margin=0.02, max_recall_drop=0.2, max_ece=None, max_bytes=None)
ALIAS = "champion"
CLASSES = ("daisy", "rose")
EXAMPLES = 100


@dataclass(frozen=True)
class Registry:
    """A registry with a run for each number of mistakes; a version refers to one of them."""

    client: "MlflowClient"
    runs: dict[int, str]

    @classmethod
    def create(cls, client: "MlflowClient", folder: Path, mistakes: tuple[int, ...]) -> "Registry":
        experiment = client.create_experiment("contest", artifact_location=str(folder / "artifacts"))
        runs = {}
        for number in mistakes:
            run = client.create_run(experiment)
            answers(number).to_csv(folder / "predictions.csv", index=False)
            client.log_artifact(run.info.run_id, str(folder / "predictions.csv"), "reports")
            runs[number] = run.info.run_id
        return cls(client, runs)

    def model(self, name: str, mistakes: tuple[int, ...]) -> str:
        """Register a model with a version for each number of mistakes; the first one has the alias."""
        self.client.create_registered_model(name)
        for number in mistakes:
            tags = {
                "accuracy": str(1 - number / EXAMPLES),
                "test_digest": "test",
                "classes": json.dumps(CLASSES),
                "data_source": "a/b",
            }
            self.client.create_model_version(name, "elsewhere", self.runs[number], tags=tags)
        self.client.set_registered_model_alias(name, ALIAS, "1")
        return name

    def holder(self, name: str) -> str:
        return str(self.client.get_model_version_by_alias(name, ALIAS).version)


def answers(mistakes: int) -> pd.DataFrame:
    """Return answers with the first examples wrong, so that fewer mistakes are some of the same."""
    actual = [CLASSES[number % 2] for number in range(EXAMPLES)]
    table = pd.DataFrame({"id": [str(number) for number in range(EXAMPLES)], "actual": actual, "predicted": actual})
    table.loc[: mistakes - 1, "predicted"] = [CLASSES[1 - number % 2] for number in range(mistakes)]
    return table


def process(uri: str, pipe: Connection) -> None:
    """Submit each version (name, version) that comes through the pipe; None is the next step. Reply with its name."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    from mlflow import MlflowClient

    from flowerml.registry import contest, history

    client = MlflowClient(uri)
    while (wanted := pipe.recv()) is not None:
        name, version = wanted
        arena = contest.Contest(client, name, ALIAS, LIMITS)
        steps = contest.submission(arena, arena.candidate(version), takes="any", how=history.GATE)
        try:
            while True:
                pipe.send(next(steps))
                pipe.recv()
        except StopIteration as end:
            pipe.send(("end", end.value.promoted, end.value.reason))
