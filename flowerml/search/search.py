"""Run a search: train and record every trial, keep the best network, resume after an interruption."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from flowerml.core import files
from flowerml.search.checkpoint import Checkpoint
from flowerml.search.progress import Bar, ShowProgress, best_so_far
from flowerml.search.study import Search, Trial
from flowerml.search.trials import Trials
from flowerml.tracking import runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from torch import nn

    from flowerml.config.params import Train
    from flowerml.search.trials import BuildNetwork, Weights
    from flowerml.tracking.lineage import Dataset

RUN = "search"


@dataclass(frozen=True)
class Winner:
    """The best trial of a search, with its network."""

    trial: Trial
    network: "nn.Module"


@dataclass(frozen=True)
class SearchStorage:
    """Where a search is recorded: MLflow experiment, folder of the checkpoint, and the fingerprint to resume under."""

    experiment: str
    checkpoint: Path
    fingerprint: str

    def finish(self) -> None:
        """Delete the checkpoint, so that the same command starts a new search. Call it once the result is saved."""
        runs.finish_resumable(self.experiment, RUN)
        files.remove(self.checkpoint)


def run_search(
    section: "Train",
    build_network: "BuildNetwork",
    storage: SearchStorage,
    *,
    parameters: "Callable[[Trial], dict[str, Any]]",
    tags: Mapping[str, str],
    datasets: "Iterable[Dataset]",
    weights: "Weights | None" = None,
    show_progress: ShowProgress = Bar,
) -> tuple[Search, Winner]:
    """Train every trial of section.search, and return the search with its winner.

    Every trial is an MLflow run under one parent, which gets the winner's parameters and score. A trial whose loss is
    not finite ends as FAILED with the reason, and the search continues. Raises FlowermlError if no trial completes, and
    ModelError if `weights` do not fit the networks.

    The search is checkpointed as it runs. After any interruption it resumes in the same MLflow runs, and yields the
    same network bit for bit. Call `storage.finish()` once the result is saved.
    """
    search = Search(section)
    checkpoint = Checkpoint(storage.checkpoint, storage.fingerprint)
    with (
        runs.run(storage.experiment, RUN, tags, resume=storage.fingerprint) as parent,
        show_progress(search) as progress,
    ):
        for dataset in datasets:
            parent.dataset(**vars(dataset))
        if checkpoint.records:
            tqdm.write(f"{storage.experiment}: resuming an interrupted search", file=sys.stderr)
        trials = Trials(build_network, parameters, parent, tags, checkpoint, progress, weights)
        network = _best_network(search, trials)
        _record_winner(parent, search, parameters)
        return search, Winner(search.best, network)


def _best_network(search: Search, trials: Trials) -> "nn.Module":
    """Run the trials and return the network of the best one. Raises FlowermlError if none completes."""
    network = None
    for trial in search:
        finished = trials.restore(trial)
        trained = None if finished else trials.run(trial)
        if trial.state == "complete" and search.best is trial:
            network = trained
        if not finished:
            best = trained is not None and network is trained
            trials.checkpoint.finish(trial, trained.state_dict() if trained is not None and best else None)
        trials.progress.trial(search)
    return network if network is not None else trials.load_best(search.best)


def _record_winner(parent: runs.Run, search: Search, parameters: "Callable[[Trial], dict[str, Any]]") -> None:
    best = search.best
    parent.params(parameters(best))
    parent.metrics(best.score())
    run = parent.reference(f"trial {best.number}")
    link = f"[trial {best.number}](#/experiments/{parent.experiment_id}/runs/{run})"
    note = f"The best is {link}, with {best_so_far(search)}."
    parent.tags({"best_trial": best.number, "best_run_id": run, "mlflow.note.content": note})
