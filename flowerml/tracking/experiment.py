"""What MLflow shows of an experiment: the view of runs, with the columns that matter, and a description."""

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

# What the UI sets when a person chooses the view of runs and curves instead of the one of traces and prompts.
TRAINING_VIEW = {"mlflow.experimentKind": "custom_model_development"}
SHARE_KEY = "flowerml"
SHARED_VIEW = f"mlflow.sharedViewState.{SHARE_KEY}"  # the tag in which the UI keeps a view that a person shares
MODE = {"workflowType": "machine_learning"}  # of the pages around it: training, and not traces and prompts
NOTE = "mlflow.note.content"
# Beside name, time and duration, which the UI always shows.
COLUMNS = (
    "metrics.`best_valid_accuracy`",
    "metrics.`accuracy`",
    "params.`train.learning_rate`",
    "params.`train.network`",
    "params.`encode.backbone`",
    "attributes.`Models`",
)


def tags(name: str) -> dict[str, str]:
    """Return the tags of a new experiment."""
    return {**TRAINING_VIEW, SHARED_VIEW: json.dumps({"selectedColumns": COLUMNS}), NOTE: description(name)}


def description(name: str) -> str:
    """Return the description of an experiment, in Markdown."""
    return (
        f"Trainings of `{name}`. A run `search` has a run for each trial, with its curves; the trial with the highest "
        "`best_valid_accuracy` wins. A run `evaluate` measures the winner on the test split (`accuracy`), and "
        "`export` or `register` makes it a version of a registered model. The report is among their artifacts."
    )


def complete(client: "MlflowClient", experiment: "Experiment") -> None:
    """Add the tags that an experiment of an older flowerml lacks; what a person has written stays."""
    if experiment.tags.get("mlflow.experimentKind") != TRAINING_VIEW["mlflow.experimentKind"]:
        return  # not ours, or seen in another view
    for key, value in tags(experiment.name).items():
        if key not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, key, value)


def link(server: str, experiment_id: str | None) -> str:
    """Return the address of an experiment's runs, in the view above, or of all experiments.

    >>> link("http://127.0.0.1:5000", "1")
    'http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=flowerml&workflowType=machine_learning'
    """
    if experiment_id is None:
        return f"{server}/#/experiments?{urlencode(MODE)}"
    return f"{server}/#/experiments/{experiment_id}/runs?{urlencode({'viewStateShareKey': SHARE_KEY, **MODE})}"


def models_link(server: str) -> str:
    """Return the address of the registered models."""
    return f"{server}/#/models?{urlencode(MODE)}"
