"""A search as a whole: every trial trained and recorded, the best network kept."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import pandas as pd
import torch
from tqdm import tqdm

from flowerml import files, lineage, tracking
from flowerml.classifier import Classifier
from flowerml.encoded import Encoded
from flowerml.errors import DivergedError, ModelError
from flowerml.fit import Epoch
from flowerml.params import dotted
from flowerml.search import Search, Trial
from flowerml.tasks import Encoder, Pipeline

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Winner:
    """The best trial of a search, with its network and its MLflow run."""

    trial: Trial
    network: "nn.Module"
    run_id: str


class Progress(Protocol):
    """Hears how a search gets on."""

    def epoch(self, trial: Trial, epoch: Epoch) -> None:
        """An epoch of this trial has ended."""

    def trial(self, search: Search) -> None:
        """The last of the search's trials has ended."""


Shows = Callable[[Search], AbstractContextManager[Progress]]


class Bar:
    """One bar for a whole search, in epochs."""

    def __init__(self, search: Search) -> None:
        self._bar = tqdm(total=search.count * search.section.epochs, desc="search", unit="epoch")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def epoch(self, trial: Trial, epoch: Epoch) -> None:
        """One step."""
        self._bar.update()

    def trial(self, search: Search) -> None:
        """The epochs that the trial did not need are done too."""
        self._bar.update(len(search.trials) * search.section.epochs - self._bar.n)
        self._bar.set_postfix_str(best_so_far(search))


def train(
    pipeline: Pipeline,
    encoded: Encoded,
    encoder: Encoder,
    *,
    classes: tuple[str, ...],
    data_digest: str,
    weights: "Mapping[str, torch.Tensor] | None" = None,
    shows: Shows = Bar,
) -> tuple[Search, Winner]:
    """Search train.search.space on the train and valid splits.

    Every trial is an MLflow run under one parent, which ends with the winner's parameters and score. A trial whose
    loss is no number ends FAILED with the reason; the search goes on. Raises FlowermlError if no trial ends well.
    With `weights` of a network like the trials' all start from these; raises ModelError where they don't fit.
    """
    if pipeline.train.threads is not None:
        torch.set_num_threads(pipeline.train.threads)
    search = Search(pipeline.train)
    data = pipeline.task.training_data(encoded, classes, encoder)
    threads = str(torch.get_num_threads())
    tags = {"pipeline": pipeline.name, "data_digest": data_digest, **lineage.git()}
    with (
        tracking.run(pipeline.name, "search", {**tags, **lineage.environment(), "threads": threads}) as parent,
        shows(search) as progress,
    ):
        winner = None
        for trial in search:
            try:
                with parent.child(f"trial {trial.number}", tags) as run:
                    network = _one(pipeline, data, trial, run, progress, weights)
            except DivergedError as error:
                trial.fail(str(error))
            if trial.state == "complete" and search.best is trial:
                winner = Winner(trial, network, run.id)
            progress.trial(search)
        return search, _concluded(parent, pipeline, search, winner)


def parameters(pipeline: Pipeline, trial: Trial) -> dict[str, Any]:
    """Every parameter of the pipeline by its dotted name, with the trial's values in their places."""
    whole = pipeline.parameters() | dotted({"train": trial.section.model_dump()})
    return {name: value for name, value in whole.items() if not name.startswith("train.search.")}


def save(
    pipeline: Pipeline,
    winner: Winner,
    encoder: Encoder,
    *,
    classes: tuple[str, ...],
    names: Mapping[str, str],
    data_digest: str,
    folder: Path,
) -> Classifier:
    """Write the winner's network as a classifier, with how it came to be. Raises ModelError."""
    return Classifier.save(
        folder,
        kind=pipeline.kind,
        encoder=encoder,
        network=winner.network,
        classes=classes,
        names=names,
        parameters=parameters(pipeline, winner.trial),
        trained={
            **{"pipeline": pipeline.name, "data_digest": data_digest, "threads": torch.get_num_threads()},
            **winner.trial.score(),
            **lineage.environment(),
        },
    )


def write_tables(search: Search, folder: Path) -> None:
    """trials.csv (a row a trial), curves.csv (the best trial's epochs) and search.json (its score) for DVC."""
    best = search.best
    curves = [
        {"epoch": epoch.number, "split": split, "measure": measure, "value": getattr(epoch, f"{split}_{measure}")}
        for split in ("train", "valid")
        for measure in ("loss", "accuracy")
        for epoch in best.epochs
    ]
    folder.mkdir(parents=True, exist_ok=True)
    files.write_csv(folder / "trials.csv", pd.DataFrame([trial.row() for trial in search.trials]))
    files.write_csv(folder / "curves.csv", pd.DataFrame(curves).round(6))
    files.write_json(folder / "search.json", best.score())


def _one(
    pipeline: Pipeline,
    data: Any,
    trial: Trial,
    run: tracking.Run,
    progress: Progress,
    weights: "Mapping[str, torch.Tensor] | None",
) -> "nn.Module":
    """Train one trial and record it; the network has the weights of its best epoch. Raises DivergedError."""
    run.params(parameters(pipeline, trial))
    network, epochs = pipeline.task.start(data, trial.section)
    if weights is not None:
        _start_from(weights, network)
    # Closing the iteration is what puts the best weights back, also where a trial is given up.
    with closing(epochs):
        for epoch in epochs:
            hopeless = trial.see(epoch)
            run.epoch(epoch)
            progress.epoch(trial, epoch)
            if hopeless:
                break
    run.metrics({**trial.score(), "seconds_in_all": sum(epoch.seconds for epoch in trial.epochs)})
    if trial.state == "pruned":
        run.tags({"pruned": "true", "reason": trial.reason})
    return network


def _start_from(weights: "Mapping[str, torch.Tensor]", network: "nn.Module") -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ModelError("the weights to go on from are of another network; leave its sizes as they were") from None


def _concluded(parent: tracking.Run, pipeline: Pipeline, search: Search, winner: Winner | None) -> Winner:
    """The winner, once the parent run tells of it; raises FlowermlError where there is none."""
    best = search.best
    assert winner is not None and winner.trial is best
    parent.params(parameters(pipeline, best))
    parent.metrics(best.score())
    link = f"#/experiments/{parent.experiment}/runs/{winner.run_id}"
    note = f"The best is [trial {best.number}]({link}), with {best_so_far(search)}."
    parent.tags({"best_trial": best.number, "best_run_id": winner.run_id, "mlflow.note.content": note})
    return winner


def best_so_far(search: Search) -> str:
    """The score of the best trial, in words."""
    complete = any(trial.state == "complete" for trial in search.trials)
    if not complete or search.best.best is None:
        return "no result yet"
    return f"best valid accuracy {search.best.best.valid_accuracy:.4f} (trial {search.best.number})"
