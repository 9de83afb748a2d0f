"""A search as a whole: every trial trained and recorded, the best network kept."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from tqdm import tqdm

from flowerml import files, lineage, tracking
from flowerml.encoded import Encoded
from flowerml.errors import DivergedError
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


def train(
    pipeline: Pipeline, encoded: Encoded, encoder: Encoder, *, classes: tuple[str, ...], data_digest: str
) -> tuple[Search, Winner]:
    """Search train.search.space on the train and valid splits.

    Every trial is an MLflow run under one parent, which ends with the winner's parameters and score. A trial whose
    loss is no number ends FAILED with the reason; the search goes on. Raises FlowermlError if no trial ends well.
    """
    if pipeline.train.threads is not None:
        torch.set_num_threads(pipeline.train.threads)
    search = Search(pipeline.train)
    data = pipeline.task.training_data(encoded, classes, encoder)
    threads = str(torch.get_num_threads())
    tags = {"pipeline": pipeline.name, "data_digest": data_digest, **lineage.git()}
    with (
        tracking.run(pipeline.name, "search", {**tags, **lineage.environment(), "threads": threads}) as parent,
        _bar(search) as bar,
    ):
        winner = None
        for trial in search:
            try:
                with parent.child(f"trial {trial.number}", tags) as run:
                    network = _one(pipeline, data, trial, run, bar)
            except DivergedError as error:
                trial.fail(str(error))
            if trial.state == "complete" and search.best is trial:
                winner = Winner(trial, network, run.id)
            _advance(bar, search)
        return search, _concluded(parent, pipeline, search, winner)


def parameters(pipeline: Pipeline, trial: Trial) -> dict[str, Any]:
    """Every parameter of the pipeline by its dotted name, with the trial's values in their places."""
    whole = pipeline.parameters() | dotted({"train": trial.section.model_dump()})
    return {name: value for name, value in whole.items() if not name.startswith("train.search.")}


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


def _one(pipeline: Pipeline, data: Any, trial: Trial, run: tracking.Run, bar: tqdm) -> "nn.Module":
    """Train one trial and record it; the network has the weights of its best epoch. Raises DivergedError."""
    run.params(parameters(pipeline, trial))
    network, epochs = pipeline.task.start(data, trial.section)
    # Closing the iteration is what puts the best weights back, also where a trial is given up.
    with closing(epochs):
        for epoch in epochs:
            hopeless = trial.see(epoch)
            run.epoch(epoch)
            bar.update()
            if hopeless:
                break
    run.metrics({**trial.score(), "seconds_in_all": sum(epoch.seconds for epoch in trial.epochs)})
    if trial.state == "pruned":
        run.tags({"pruned": "true", "reason": trial.reason})
    return network


def _concluded(parent: tracking.Run, pipeline: Pipeline, search: Search, winner: Winner | None) -> Winner:
    """The winner, once the parent run tells of it; raises FlowermlError where there is none."""
    best = search.best
    assert winner is not None and winner.trial is best
    parent.params(parameters(pipeline, best))
    parent.metrics(best.score())
    link = f"#/experiments/{parent.experiment}/runs/{winner.run_id}"
    note = f"The best is [trial {best.number}]({link}), with {_best_so_far(search)}."
    parent.tags({"best_trial": best.number, "best_run_id": winner.run_id, "mlflow.note.content": note})
    return winner


def _bar(search: Search) -> tqdm:
    return tqdm(total=search.count * search.section.epochs, desc="search", unit="epoch")


def _advance(bar: tqdm, search: Search) -> None:
    """The epochs that a finished trial did not need are done too."""
    bar.update(len(search.trials) * search.section.epochs - bar.n)
    bar.set_postfix_str(_best_so_far(search))


def _best_so_far(search: Search) -> str:
    complete = any(trial.state == "complete" for trial in search.trials)
    if not complete or search.best.best is None:
        return "no result yet"
    return f"best valid accuracy {search.best.best.valid_accuracy:.4f} (trial {search.best.number})"
