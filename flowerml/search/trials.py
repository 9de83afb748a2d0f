"""Train and record the trials of a search in this process, each resumed from its checkpoint."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from flowerml.config.paths import PACKAGE
from flowerml.core import fingerprint
from flowerml.core.errors import DivergedError
from flowerml.search.checkpoint import Checkpoint
from flowerml.search.networks import Networks, Weights, started
from flowerml.search.progress import Progress
from flowerml.search.trial import SEARCHED, Trial
from flowerml.tracking import runs

if TYPE_CHECKING:
    from torch import nn

    from flowerml.config.params import Train

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
    "pipeline/trainers.py",
)
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "optuna")


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

    The number of trials is left out, so that a search can be extended, and so are the examples that travel with the
    classifier. The number of threads is the one that torch has now, wherever the section leaves it open. `networks` is
    the path of the task's networks, whose code is hashed; `encodings` are the encoder's fingerprints of the splits used
    for training.
    """
    on_gpu = torch.cuda.is_available()
    head = section.head_alone()
    facts = {
        "train": _without_trials(section),
        "head": _without_trials(head) if head is not None else None,
        "classes": classes,
        "data": data_digest,
        "encodings": encodings,
        "weights": fingerprint.of_tensors(weights) if weights is not None else None,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if on_gpu else torch.backends.cpu.get_cpu_capability(),
    }
    code = [*(PACKAGE / name for name in CODE), networks]
    return fingerprint.of(facts, packages=PACKAGES, code=code)


def _without_trials(section: "Train") -> dict[str, Any]:
    values = section.model_dump(exclude={"threads", "examples"})
    del values["search"]["trials"]
    return values


class Source(Protocol):
    """Trainings in an order of their own: those of a search, or those after it."""

    def ask(self) -> Trial | None:
        """Return the next training; None while others have to finish first, and after the last one."""

    def finish(self, trial: Trial) -> None:
        """Take note that a training has ended."""

    def kept_with(self, trial: Trial) -> Sequence[Trial]:
        """Return the trainings whose weights are kept once this one has ended, the best first."""


class Runner(Protocol):
    """What runs trainings: one after the other in this process, or several in others."""

    def run(self, source: Source, progress: Progress) -> "nn.Module | None":
        """Run all trainings of a source, or restore them from the checkpoint.

        Return the network of the best one, where it is at hand.
        """


@dataclass(frozen=True)
class Trials:
    """What the trials of a search share.

    `parameters` returns the parameters to log for a trial. With `weights` every network starts from them instead of
    from its seed.
    """

    networks: Networks
    parameters: Callable[[Trial], dict[str, Any]]
    parent: runs.Run
    tags: Mapping[str, str]
    checkpoint: Checkpoint
    weights: Weights | None

    def restore(self, trial: Trial) -> bool:
        """Restore a trial that had ended from the checkpoint; return whether it had.

        What is trained after the search is trained again where its weights are gone, as more trials were run since.
        """
        record = self.checkpoint.records.get(trial.id)
        if record is None:
            return False
        if trial.kind not in SEARCHED and record.state == "complete" and not self.checkpoint.has_weights(trial):
            return False
        trial.restore(record.epochs, state=record.state, reason=record.reason)
        return True

    def note_mixed(self) -> None:
        """Tag the search as one of unlike machines, whose results may differ in the last bits."""
        self.checkpoint.note_mixed()
        self.parent.tags({"mixed_processors": "true"})

    @contextmanager
    def recorded(self, trial: Trial) -> Iterator[runs.Run]:
        """Record a trial in its own MLflow run. A DivergedError ends it as failed; other errors are raised."""
        try:
            with self.parent.child(trial.name, self.tags) as run:
                run.params(self.parameters(trial))
                yield run
                run.metrics({**trial.score(), "seconds_in_all": sum(epoch.seconds for epoch in trial.epochs)})
                run.rename(trial.title())
                if trial.state == "pruned":
                    run.tags({"pruned": "true", "reason": trial.reason})
        except DivergedError as error:
            trial.fail(str(error))

    def load(self, trial: Trial) -> "nn.Module":
        """Return the network of a finished trial whose weights the checkpoint has kept."""
        network, _ = self.networks.build(trial.section)
        network.load_state_dict(self.checkpoint.weights(trial))
        return network.eval()


class InProcess:
    """Runs trainings in this process, one after the other: see `Runner`."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials

    def run(self, source: Source, progress: Progress) -> "nn.Module | None":
        """See `Runner`."""
        best = None
        while (trial := source.ask()) is not None:
            restored = self._trials.restore(trial)
            network = None if restored else self._train(trial, progress)
            kept = source.kept_with(trial)
            if not restored:
                needed = network is not None and trial in kept
                weights = network.state_dict() if network is not None and needed else None
                self._trials.checkpoint.finish(trial, weights, keep=kept)
            if kept and kept[0] is trial:
                best = network
            source.finish(trial)
            progress.trial(trial)
        return best

    def _train(self, trial: Trial, progress: Progress) -> "nn.Module | None":
        """Train a trial; return its network with the weights of the best epoch."""
        trials, checkpoint, network = self._trials, self._trials.checkpoint, None
        with trials.recorded(trial) as run:
            network, training = started(trials.networks, trial.kind, trial.section, trials.weights)
            saved = checkpoint.running(trial)
            if saved is not None:
                training.resume(saved.state)
                trial.restore(saved.epochs, state="complete", reason="")
                progress.epoch(trial, trial.epochs[-1])
            # Closing the training restores the best weights, also when a trial is pruned.
            with closing(training):
                for epoch in training:
                    end = trial.report(epoch)
                    run.epoch(epoch)
                    progress.epoch(trial, epoch)
                    if end:
                        break
                    if checkpoint.is_due(trial):
                        checkpoint.write(trial, training)
        return network
