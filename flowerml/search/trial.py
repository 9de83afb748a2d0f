"""A trial: a point of the search space with its epochs, and the order of trials by their best epoch."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from flowerml.engine.fit import Epoch
from flowerml.search.pruning import NEVER, Stop

if TYPE_CHECKING:
    from flowerml.config.params import Train

SEARCHED = ("head", "trial")  # the kinds of a search's own trials


class Trial:
    """A point of the search space and its epochs; `stop` decides after each epoch whether it ends.

    `kind` is "trial", or "head" where the head alone is trained for the trials that fine-tune, or what a later training
    of the winner is for; `position` counts those of a kind, from 0. `id` names its files in the checkpoint: it stays
    the same when a search is extended, which `number` does not for what is trained after the search.
    """

    def __init__(
        self,
        number: int,
        section: "Train",
        stop: Stop = NEVER,
        *,
        kind: str = "trial",
        position: int | None = None,
        name: str | None = None,
        id: str | None = None,
    ) -> None:
        self.number = number
        self.section = section
        self.stop = stop
        self.kind = kind
        self.position = number if position is None else position
        self.name = name or f"trial {number}"
        self.id = id or f"trial-{number}"
        self.epochs: list[Epoch] = []
        self.state = "complete"
        self.reason = ""
        self.finished = False

    @property
    def best(self) -> Epoch | None:
        """The epoch with the highest validation accuracy; ties are broken by lower loss."""
        return best_epoch(self.epochs)

    @property
    def last(self) -> int | None:
        """The epoch after which the training ends, if it is not the last one that its section plans."""
        return self.stop.last

    def report(self, epoch: Epoch) -> bool:
        """Record an epoch; return whether the trial should end: it is pruned, or complete.

        Trials are compared by their best accuracy so far, which is also what chooses the winner.
        """
        self.epochs.append(epoch)
        if self.stop.prunes(self.epochs):
            self.state = "pruned"
            self.reason = f"below the median of the other trials after epoch {epoch.number}"
        return self.stop.ends(self.epochs)

    def restore(self, epochs: Iterable[Epoch], *, state: str, reason: str) -> None:
        """Restore the epochs and the state that an interrupted search recorded for this trial."""
        self.epochs = [*epochs]
        self.state, self.reason = state, reason

    def fail(self, reason: str) -> None:
        """End the trial without a result."""
        self.state, self.reason = "failed", reason

    def score(self) -> dict[str, float]:
        """Return the metrics of the best epoch, under the names that MLflow and DVC show.

        A training on train and valid has no metrics on valid.
        """
        assert self.best is not None, "a trial has no score before its first epoch"
        best = self.best
        valid = {"best_valid_accuracy": best.valid_accuracy, "best_valid_loss": best.valid_loss}
        return {
            **{name: value for name, value in valid.items() if not math.isnan(best.valid_accuracy)},
            "best_epoch": best.number,
            **{f"chosen_{name}": value for name, value in best.chosen.items()},
        }

    def title(self) -> str:
        """Return the name of its run in MLflow once it has ended, such as "trial 3 · valid 0.944 · ngrams".

        Where a task has several networks, the name says which one it trained.
        """
        parts = [self.name]
        if self.best is not None and not math.isnan(self.best.valid_accuracy):
            parts.append(f"valid {self.best.valid_accuracy:.3f}")
        if network := getattr(self.section, "network", None):
            parts.append(str(network))
        return " · ".join(parts if self.state == "complete" else [*parts, self.state])

    def row(self, searched: Iterable[str] | None = None) -> dict[str, Any]:
        """Return the trial as a row of trials.csv, with the values that were searched.

        Its seconds are in MLflow alone: the same search gives the same bytes, and so the same hash in dvc.lock.
        """
        names = self.section.search.space if searched is None else searched
        return {
            "trial": self.number,
            "state": self.state,
            **(self.score() if self.best else {}),
            "epochs": len(self.epochs),
            **{name: json.dumps(self.section.value(name)) for name in names},
            "reason": self.reason,
        }


def best_epoch(epochs: Iterable[Epoch]) -> Epoch | None:
    """Return the epoch with the highest validation accuracy; ties are broken by lower loss. None without epochs."""
    return max(epochs, key=_key, default=None)


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that finished and are complete, the best one first; ties are broken by the lower number."""
    complete = [trial for trial in trials if trial.finished and trial.state == "complete" and trial.best]
    return sorted(complete, key=_rank)


def leading(leaders: Sequence[Trial], trial: Trial, *, count: int) -> list[Trial]:
    """Return the best `count` of the `leaders` so far and one more trial, the best first.

    The best of all are among those of any part of them, so trials may finish in any order.
    """
    if trial.state != "complete" or trial.best is None:
        return [*leaders]
    return sorted([*leaders, trial], key=_rank)[:count]


def _rank(trial: Trial) -> tuple[float, float, int]:
    accuracy, loss = _key(trial.best)
    return -accuracy, -loss, trial.number


def _key(epoch: Epoch | None) -> tuple[float, float]:
    assert epoch is not None
    if math.isnan(epoch.valid_accuracy):  # trained on train and valid: the last epoch counts
        return (0.0, epoch.number)
    return (epoch.valid_accuracy, -epoch.valid_loss)
