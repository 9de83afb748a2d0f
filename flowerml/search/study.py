"""The search over train.search.space: its trials, and the best of them."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna

from flowerml.core.errors import FlowermlError
from flowerml.engine.fit import Epoch
from flowerml.search.sampling import Sampler

if TYPE_CHECKING:
    from flowerml.config.params import Train


class Trial:
    """A point of the search space and its epochs; it decides after each epoch whether to prune.

    `kind` is "trial", or "head" where the head alone is trained for the trials that fine-tune, or what a later training
    of the winner is for; `position` counts those of a kind, from 0. Training ends after the epoch `last`, if given.
    """

    def __init__(
        self,
        number: int,
        section: "Train",
        optuna_trial: optuna.Trial | None = None,
        *,
        kind: str = "trial",
        position: int | None = None,
        name: str | None = None,
        last: int | None = None,
    ) -> None:
        self.number = number
        self.section = section
        self.kind = kind
        self.position = number if position is None else position
        self.name = name or f"trial {number}"
        self.last = last
        self.epochs: list[Epoch] = []
        self.state = "complete"
        self.reason = ""
        self._optuna = optuna_trial

    @property
    def best(self) -> Epoch | None:
        """The epoch with the highest validation accuracy; ties are broken by lower loss."""
        return max(self.epochs, key=_key, default=None)

    def report(self, epoch: Epoch) -> bool:
        """Record an epoch; return whether the trial should end: it is pruned, or complete.

        Trials are compared by their best accuracy so far, which is also what chooses the winner.
        """
        self.epochs.append(epoch)
        if self._optuna is None:
            return epoch.number == self.last
        assert self.best is not None
        self._optuna.report(self.best.valid_accuracy, epoch.number)
        if self.section.search.prune and self._optuna.should_prune():
            self.state = "pruned"
            self.reason = f"below the median of the other trials after epoch {epoch.number}"
            return True
        return False

    def restore(self, epochs: Iterable[Epoch], *, state: str, reason: str) -> None:
        """Restore the epochs and the state that an interrupted search recorded for this trial."""
        for epoch in epochs:
            self.report(epoch)
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

    def row(self, searched: Iterable[str] | None = None) -> dict[str, Any]:
        """Return the trial as a row of trials.csv, with the values that were searched."""
        names = self.section.search.space if searched is None else searched
        return {
            "trial": self.number,
            "state": self.state,
            **(self.score() if self.best else {}),
            "epochs": len(self.epochs),
            "seconds": round(sum(epoch.seconds for epoch in self.epochs), 2),
            **{name: json.dumps(self.section.value(name)) for name in names},
            "reason": self.reason,
        }


@dataclass
class Search:
    """The trials of one search, in order, as `Sampler` chooses them.

    With `head_trials` the first ones train a head alone, which takes seconds, as `section.head_alone()` says. The
    others take what suited the best of these, search the rest of the space, and are not pruned: the best fine-tuning
    is often behind at first (valid 0.867 after its first epoch, 0.982 after its last).
    """

    section: "Train"

    def __post_init__(self) -> None:
        self.trials: list[Trial] = []
        self._heads: Sampler | None = None
        if self.section.search.head_trials:
            heads = self.section.head_alone()
            assert heads is not None, "the section's schema permits head_trials"
            self._heads = Sampler(heads)
            self._rest = Sampler(_after_heads(self.section, self.section))
        else:
            self._rest = Sampler(self.section)

    def __iter__(self) -> Iterator[Trial]:
        """Yield the trials. Optuna learns the result of each before it suggests the next."""
        if self._heads is not None:
            yield from self._sampled(self._heads, "head")
            best = best_of(self.trials)
            self._rest = Sampler(_after_heads(self.section, best.section if best else self.section))
        yield from self._sampled(self._rest, "trial")

    def _sampled(self, sampler: Sampler, kind: str) -> Iterator[Trial]:
        for number in range(sampler.count):
            section, optuna_trial = sampler.ask(number)
            trial = Trial(len(self.trials), section, optuna_trial, kind=kind, position=number)
            self.trials.append(trial)
            yield trial
            if optuna_trial:
                sampler.tell(optuna_trial, trial.state, trial.best.valid_accuracy if trial.best else None)

    @property
    def searched(self) -> list[str]:
        """The names of the parameters that are searched."""
        spaces = [sampler.section.search.space for sampler in self._samplers]
        return list(dict.fromkeys(name for space in [self.section.search.space, *spaces] for name in space))

    @property
    def count(self) -> int:
        """The number of trials."""
        return sum(sampler.count for sampler in self._samplers)

    def planned(self, kind: str) -> tuple[int, int]:
        """Return the number of trials of a kind, and that of epochs of the longest one, were it not stopped early."""
        sampler = self._heads if kind == "head" else self._rest
        assert sampler is not None, "there are trials of this kind"
        return sampler.count, sampler.planned_epochs

    @property
    def total_epochs(self) -> int:
        """The number of epochs of all trials, if none is pruned or stopped early."""
        return sum(sampler.count * sampler.planned_epochs for sampler in self._samplers)

    @property
    def next_number(self) -> int:
        """The number of the next trial."""
        return len(self.trials)

    def epochs_before(self, number: int) -> int:
        """Return the number of epochs that were planned for the trials before this one."""
        return sum(self.planned(trial.kind)[1] for trial in self.trials[:number])

    @property
    def best(self) -> Trial:
        """The complete trial with the best epoch; raises FlowermlError if no trial is complete."""
        best = best_of(self.trials)
        if best is None:
            reasons = "; ".join(dict.fromkeys(trial.reason for trial in self.trials))
            raise FlowermlError(f"no trial of the search completed: {reasons}")
        return best

    @property
    def _samplers(self) -> list[Sampler]:
        return [self._rest] if self._heads is None else [self._heads, self._rest]


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Return the complete trials, the best one first; of equals the earlier one."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.best]
    return sorted(complete, key=lambda trial: _key(trial.best), reverse=True)


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """Return the complete trial with the best epoch; None if no trial is complete."""
    return next(iter(ranked(trials)), None)


def _after_heads(section: "Train", head: "Train") -> "Train":
    """Return the section of the trials after those of the head alone, with the choices of the best `head`."""
    chosen = head.head_choices()
    search = section.search.model_dump()
    search |= {
        "trials": section.search.trials - section.search.head_trials,
        "head_trials": 0,
        "prune": False,
        "space": {name: values for name, values in search["space"].items() if name not in chosen},
    }
    return section.with_values({**chosen, "search": search})


def _key(epoch: Epoch | None) -> tuple[float, float]:
    assert epoch is not None
    if math.isnan(epoch.valid_accuracy):  # trained on train and valid: the last epoch counts
        return (0.0, epoch.number)
    return (epoch.valid_accuracy, -epoch.valid_loss)
