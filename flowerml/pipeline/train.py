"""A search as a whole: every trial trained and recorded, the best network kept."""

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from flowerml.classifier.calibration import Calibration
from flowerml.classifier.classifier import Classifier
from flowerml.core import files
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Examples
from flowerml.engine.fit import Epoch
from flowerml.search import trials
from flowerml.search.checkpoint import Checkpoint
from flowerml.search.study import Search, Trial
from flowerml.search.trials import Trials, parameters
from flowerml.tasks.registry import Encoder, Pipeline
from flowerml.tracking import lineage, runs

if TYPE_CHECKING:
    from torch import nn

RUN = "search"
CALIBRATED_ON = 5000


@dataclass(frozen=True)
class Winner:
    """The best trial of a search, with its network."""

    trial: Trial
    network: "nn.Module"


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
    examples: Examples,
    data_digest: str,
    weights: "Mapping[str, torch.Tensor] | None" = None,
    shows: Shows = Bar,
) -> tuple[Search, Winner]:
    """Search train.search.space on the train and valid splits.

    Every trial is an MLflow run under one parent, which ends with the winner's parameters and score. A trial whose
    loss is no number ends FAILED with the reason; the search goes on. Raises FlowermlError if no trial ends well.
    With `weights` of a network like the trials' all start from these; raises ModelError where they don't fit.

    How far it has come is written down all the time: after an interruption of any kind the same search goes on from
    there, in the same runs, to the same network, bit for bit. `forget` it when its outcome is saved.

    `examples` are what was encoded, and `data_digest` is theirs: they are only told of.
    """
    if pipeline.train.threads is not None:
        torch.set_num_threads(pipeline.train.threads)
    search = Search(pipeline.train)
    classes = encoded.classes
    data = pipeline.task.training_data(encoded, classes, encoder)
    tags = lineage.tags(pipeline, data_digest, stage="train", threads=torch.get_num_threads())
    key = trials.key(pipeline, encoder, classes=classes, data_digest=data_digest, weights=weights)
    checkpoint = Checkpoint(pipeline.paths.checkpoint, key)
    with runs.run(pipeline.name, RUN, tags, resume=key) as parent, shows(search) as progress:
        for dataset in lineage.datasets(pipeline, examples):
            parent.dataset(**vars(dataset))
        if checkpoint.records:
            tqdm.write(f"{pipeline.name}: going on with a search that was interrupted", file=sys.stderr)
        each = Trials(pipeline, data, parent, tags, checkpoint, progress, weights)
        network = _best_network(search, each)
        _conclude(parent, pipeline, search)
        return search, Winner(search.best, network)


def forget(pipeline: Pipeline) -> None:
    """The outcome of the search is saved: the same command is to begin a new one."""
    runs.forget(pipeline.name, RUN)
    files.remove(pipeline.paths.checkpoint)


def save(
    pipeline: Pipeline,
    winner: Winner,
    encoder: Encoder,
    *,
    classes: tuple[str, ...],
    names: Mapping[str, str],
    data_digest: str,
    folder: Path,
    examples: Examples | None = None,
) -> Classifier:
    """Write the winner's network as a classifier, with how it came to be. Raises ModelError.

    With `examples` it is calibrated on those of the validation split, as they came: what is calibrated is what will be
    served, and not the network in torch.
    """
    acceptance = pipeline.train.acceptance
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
        calibrate=None if examples is None else partial(_calibration, examples=examples, acceptance=acceptance),
    )


def _calibration(classifier: Classifier, *, examples: Examples, acceptance: float) -> Calibration:
    """Fitted on at most CALIBRATED_ON validation examples, evenly spaced: a number and a quantile ask for no more."""
    step = math.ceil(examples.count("valid") / CALIBRATED_ON) or 1
    valid = list(islice(examples.keys("valid"), 0, None, step))
    wanted = {key.id for key in valid}
    index = {label: number for number, label in enumerate(classifier.classes)}
    targets = np.array([index[key.label] for key in valid], dtype=np.int64)
    raws = (example.raw for example in examples.of("valid", where=lambda key: key.id in wanted))
    probabilities = classifier.probabilities(raws)
    logits = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))  # but for a number that softmax takes away
    return Calibration.fit(logits, targets, acceptance=acceptance)


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


def _best_network(search: Search, each: Trials) -> "nn.Module":
    """Go through the trials; gives the network of the best. Raises FlowermlError where none ended well."""
    network = None
    for trial in search:
        ended = each.recalled(trial)
        trained = None if ended else each.trained(trial)
        if trial.state == "complete" and search.best is trial:
            network = trained
        if not ended:
            best = trained is not None and network is trained
            each.checkpoint.end(trial, trained.state_dict() if trained is not None and best else None)
        each.progress.trial(search)
    return network if network is not None else each.of_checkpoint(search.best)


def _conclude(parent: runs.Run, pipeline: Pipeline, search: Search) -> None:
    """Tell the parent run of the winner."""
    best = search.best
    parent.params(parameters(pipeline, best))
    parent.metrics(best.score())
    run = parent.reference(f"trial {best.number}")
    note = (
        f"The best is [trial {best.number}](#/experiments/{parent.experiment}/runs/{run}), with {best_so_far(search)}."
    )
    parent.tags({"best_trial": best.number, "best_run_id": run, "mlflow.note.content": note})


def best_so_far(search: Search) -> str:
    """The score of the best trial, in words."""
    complete = any(trial.state == "complete" for trial in search.trials)
    if not complete or search.best.best is None:
        return "no result yet"
    return f"best valid accuracy {search.best.best.valid_accuracy:.4f} (trial {search.best.number})"
