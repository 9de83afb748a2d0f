"""A search as a whole: every trial trained and recorded, the best network kept, an interrupted search resumed."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from flowerml.core import files
from flowerml.search.checkpoint import Checkpoint
from flowerml.search.progress import Bar, Shows, best_so_far
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
class SearchFiles:
    """What a search is recorded and resumed under: an MLflow experiment, a checkpoint's folder, a fingerprint."""

    experiment: str
    checkpoint: Path
    fingerprint: str

    def finish(self) -> None:
        """Delete the checkpoint once the outcome is saved, so that the same command begins a new search."""
        runs.finish_resumable(self.experiment, RUN)
        files.remove(self.checkpoint)


def run_search(
    section: "Train",
    build_network: "BuildNetwork",
    where: SearchFiles,
    *,
    parameters: "Callable[[Trial], dict[str, Any]]",
    tags: Mapping[str, str],
    datasets: "Iterable[Dataset]",
    weights: "Weights | None" = None,
    shows: Shows = Bar,
) -> tuple[Search, Winner]:
    """Train every trial of section.search, and return the search with its winner.

    Every trial is an MLflow run under one parent, which ends with the winner's parameters and score. A trial whose
    loss is not finite ends FAILED with the reason; the search continues. Raises FlowermlError if no trial ends well,
    and ModelError where `weights` do not fit the networks.

    Progress is checkpointed all the time: after an interruption of any kind the same search resumes from there, in the
    same runs, to the same network, bit for bit. Call `where.finish()` when its outcome is saved.
    """
    search = Search(section)
    checkpoint = Checkpoint(where.checkpoint, where.fingerprint)
    with (
        runs.run(where.experiment, RUN, tags, resume=where.fingerprint) as parent,
        shows(search) as progress,
    ):
        for dataset in datasets:
            parent.dataset(**vars(dataset))
        if checkpoint.records:
            tqdm.write(f"{where.experiment}: resuming a search that was interrupted", file=sys.stderr)
        trials = Trials(build_network, parameters, parent, tags, checkpoint, progress, weights)
        network = _best_network(search, trials)
        _record_winner(parent, search, parameters)
        return search, Winner(search.best, network)


def _best_network(search: Search, trials: Trials) -> "nn.Module":
    """Run the trials and return the network of the best. Raises FlowermlError where none ended well."""
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
    note = f"The best is [trial {best.number}](#/experiments/{parent.experiment_id}/runs/{run}), with {best_so_far(search)}."
    parent.tags({"best_trial": best.number, "best_run_id": run, "mlflow.note.content": note})
