"""Train and record the trials of a search, each resumed from its checkpoint."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from flowerml.config.paths import PACKAGE
from flowerml.core import fingerprint
from flowerml.core.display import one_line, printable
from flowerml.core.errors import DivergedError, ModelError
from flowerml.search.checkpoint import Checkpoint
from flowerml.search.networks import BuildNetwork
from flowerml.search.progress import Progress
from flowerml.search.study import Trial
from flowerml.tracking import runs

if TYPE_CHECKING:
    from torch import nn

    from flowerml.config.params import Train
    from flowerml.engine.fit import Training

CODE = (
    "engine/averaging.py",
    "engine/devices.py",
    "engine/feed_forward.py",
    "engine/fit.py",
    "engine/mixup.py",
    "engine/optimizers.py",
    "engine/recipe.py",
    "search",
    "pipeline/train.py",
)
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "optuna")

Weights = Mapping[str, torch.Tensor]


def search_fingerprint(
    section: "Train",
    *,
    networks: Path,
    classes: tuple[str, ...],
    data_digest: str,
    encodings: list[str],
    weights: Weights | None,
) -> str:
    """Return a digest of all that the result of a search depends on bit for bit, including this machine's arithmetic.

    `networks` is the path of the task's networks, whose code is hashed; `encodings` are the encoder's fingerprints of
    the splits used for training.
    """
    on_gpu = torch.cuda.is_available()
    head = section.head_alone()
    facts = {
        "train": section.model_dump(),
        "head": head.model_dump() if head is not None else None,
        "classes": classes,
        "data": data_digest,
        "encodings": encodings,
        "weights": fingerprint.of_tensors(weights) if weights is not None else None,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if on_gpu else torch.backends.cpu.get_cpu_capability(),
    }
    code = [*(PACKAGE / name for name in CODE), networks]
    return fingerprint.of(facts, packages=PACKAGES, code=code)


@dataclass(frozen=True)
class Trials:
    """What the trials of a search share.

    `build_network` returns a network and its training for a trial's section; `parameters` returns the parameters to log
    for a trial. With `weights` every network starts from them instead of from its seed.
    """

    build_network: BuildNetwork
    parameters: Callable[[Trial], dict[str, Any]]
    parent: runs.Run
    tags: Mapping[str, str]
    checkpoint: Checkpoint
    progress: Progress
    weights: Weights | None

    def restore(self, trial: Trial) -> bool:
        """Restore a trial from the checkpoint; return whether it had finished."""
        record = self.checkpoint.records.get(trial.number)
        if record is None:
            return False
        trial.restore(record.epochs, state=record.state, reason=record.reason)
        for epoch in record.epochs:
            self.progress.epoch(trial, epoch)
        return record.finished

    def run(self, trial: Trial) -> "nn.Module | None":
        """Train a trial in its own MLflow run. Return the network of the best epoch, None if the trial diverged."""
        try:
            with self.parent.child(trial.name, self.tags) as run:
                return self._train(trial, run)
        except DivergedError as error:
            trial.fail(str(error))
            return None

    def load(self, trial: Trial) -> "nn.Module":
        """Return the network of a finished trial whose weights the checkpoint has kept."""
        network, _ = self.build_network(trial.section)
        network.load_state_dict(self.checkpoint.weights(trial.number))
        return network.eval()

    def _train(self, trial: Trial, run: runs.Run) -> "nn.Module":
        run.params(self.parameters(trial))
        network, training = self._network(trial)
        state = self.checkpoint.running(trial.number)
        if state is not None:
            training.resume(state)
        # Closing the training restores the best weights, also when a trial is pruned.
        with closing(training):
            for epoch in training:
                end = trial.report(epoch)
                run.epoch(epoch)
                self.progress.epoch(trial, epoch)
                if end:
                    break
                if self.checkpoint.is_due:
                    self.checkpoint.write(trial, training)
        run.metrics({**trial.score(), "seconds_in_all": sum(epoch.seconds for epoch in trial.epochs)})
        if trial.state == "pruned":
            run.tags({"pruned": "true", "reason": trial.reason})
        return network

    def _network(self, trial: Trial) -> "tuple[nn.Module, Training]":
        """Return a new network and its training; raises ModelError if the starting weights do not fit."""
        if self.weights is None:
            return self.build_network(trial.section)
        try:
            network, training = self.build_network(trial.section)
        except (RuntimeError, MemoryError) as error:  # the sizes are those that a stranger's classifier names
            raise ModelError(
                f"the network of the starting weights cannot be made ({printable(one_line(error), 200)})"
            ) from None
        _load_weights(self.weights, network)
        return network, training


def _load_weights(weights: Weights, network: "nn.Module") -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ModelError(
            "the starting weights belong to a network of other sizes; keep the sizes it was trained with"
        ) from None
