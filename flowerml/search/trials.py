"""Trials trained and recorded, each from where an interruption has left it."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import flowerml
from flowerml.config.params import dotted
from flowerml.core import fingerprint
from flowerml.core.errors import DivergedError, ModelError
from flowerml.search.checkpoint import Checkpoint
from flowerml.search.study import Trial
from flowerml.tasks.registry import Encoder, Pipeline
from flowerml.tracking import runs

if TYPE_CHECKING:
    from torch import nn

    from flowerml.pipeline.train import Progress

PACKAGE = Path(flowerml.__file__).parent
CODE = ("engine/fit.py", "search", "pipeline/train.py")
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "optuna")

Weights = Mapping[str, torch.Tensor]


def key(
    pipeline: Pipeline, encoder: Encoder, *, classes: tuple[str, ...], data_digest: str, weights: Weights | None
) -> str:
    """Names all that the result of a search depends on, bit for bit, this machine's way of computing included."""
    facts = {
        "train": pipeline.train.model_dump(),
        "classes": classes,
        "data": data_digest,
        "encodings": [encoder.fingerprint(pipeline.encode, split) for split in ("train", "valid")],
        "weights": fingerprint.of_tensors(weights) if weights is not None else None,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else torch.backends.cpu.get_cpu_capability(),
    }
    code = [*(PACKAGE / name for name in CODE), PACKAGE / "tasks" / pipeline.kind / "networks"]
    return fingerprint.of(facts, packages=PACKAGES, code=code)


def parameters(pipeline: Pipeline, trial: Trial) -> dict[str, Any]:
    """Every parameter of the pipeline by its dotted name, with the trial's values in their places."""
    whole = pipeline.parameters() | dotted({"train": trial.section.model_dump()})
    return {name: value for name, value in whole.items() if not name.startswith("train.search.")}


@dataclass(frozen=True)
class Trials:
    """What the trials of a search have in common."""

    pipeline: Pipeline
    data: Any
    parent: runs.Run
    tags: Mapping[str, str]
    checkpoint: Checkpoint
    progress: "Progress"
    weights: Weights | None
    """What every network starts from, where it is not its seed."""

    def recalled(self, trial: Trial) -> bool:
        """Tell a trial what an earlier attempt has seen of it; whether it had come to its end."""
        record = self.checkpoint.records.get(trial.number)
        if record is None:
            return False
        trial.recall(record.epochs, state=record.state, reason=record.reason)
        for epoch in record.epochs:
            self.progress.epoch(trial, epoch)
        return record.ended

    def trained(self, trial: Trial) -> "nn.Module | None":
        """Train a trial to its end in a run of its own; None where it diverged.

        Otherwise the network has the weights of its best epoch.
        """
        try:
            with self.parent.child(f"trial {trial.number}", self.tags) as run:
                return self._one(trial, run)
        except DivergedError as error:
            trial.fail(str(error))
            return None

    def of_checkpoint(self, trial: Trial) -> "nn.Module":
        """The network of a trial that was the best when it ended, in an earlier attempt."""
        network, _ = self.pipeline.task.start(self.data, trial.section)
        network.load_state_dict(self.checkpoint.best(trial.number))
        return network.eval()

    def _one(self, trial: Trial, run: runs.Run) -> "nn.Module":
        run.params(parameters(self.pipeline, trial))
        network, training = self.pipeline.task.start(self.data, trial.section)
        if self.weights is not None:
            _start_from(self.weights, network)
        state = self.checkpoint.running(trial.number)
        if state is not None:
            training.resume(state)
        # Closing the training is what puts the best weights back, also where a trial is given up.
        with closing(training):
            for epoch in training:
                hopeless = trial.see(epoch)
                run.epoch(epoch)
                self.progress.epoch(trial, epoch)
                if hopeless:
                    break
                if self.checkpoint.due:
                    self.checkpoint.write(trial, training)
        run.metrics({**trial.score(), "seconds_in_all": sum(epoch.seconds for epoch in trial.epochs)})
        if trial.state == "pruned":
            run.tags({"pruned": "true", "reason": trial.reason})
        return network


def _start_from(weights: Weights, network: "nn.Module") -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ModelError("the weights to go on from are of another network; leave its sizes as they were") from None
