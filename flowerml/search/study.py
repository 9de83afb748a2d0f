"""The search over train.search.space with Optuna: it chooses the next values to try, and the trials to prune.

The study is in memory, and is restored by replaying the trials of the checkpoint: none of Optuna's storages keeps a
half-trained network. A trial also costs 5 ms in memory, 52 ms in a JournalStorage, 306 ms in SQLite and 7 s in
MLflow's MlflowStorage.
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import optuna

from flowerml.core.errors import FlowermlError
from flowerml.engine.fit import Epoch

if TYPE_CHECKING:
    from flowerml.config.params import Candidates, Train

# Random trials before the Tree-structured Parzen Estimator (Bergstra et al., 2011) takes over. Optuna's default of ten
# would leave it almost no trial in a search of a dozen.
RANDOM_TRIALS = 5
# No trial is pruned before so many others have finished, nor before this share of its epochs.
TRIALS_BEFORE_PRUNING = 3
EPOCHS_BEFORE_PRUNING = 1 / 3


class Trial:
    """A point of the search space and its epochs; it decides after each epoch whether to prune."""

    def __init__(self, number: int, section: "Train", optuna_trial: optuna.Trial | None) -> None:
        self.number = number
        self.section = section
        self.epochs: list[Epoch] = []
        self.state = "complete"
        self.reason = ""
        self._optuna = optuna_trial

    @property
    def best(self) -> Epoch | None:
        """The epoch with the highest validation accuracy; ties are broken by lower loss."""
        return max(self.epochs, key=_key, default=None)

    def report(self, epoch: Epoch) -> bool:
        """Record an epoch; return whether the trial should be pruned.

        Trials are compared by their best accuracy so far, which is also what chooses the winner.
        """
        self.epochs.append(epoch)
        if self._optuna is None:
            return False
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
        """Return the metrics of the best epoch, under the names that MLflow and DVC show."""
        assert self.best is not None, "a trial has no score before its first epoch"
        best = self.best
        return {
            "best_valid_accuracy": best.valid_accuracy,
            "best_valid_loss": best.valid_loss,
            "best_epoch": best.number,
            **{f"chosen_{name}": value for name, value in best.chosen.items()},
        }

    def row(self) -> dict[str, Any]:
        """Return the trial as a row of trials.csv."""
        return {
            "trial": self.number,
            "state": self.state,
            **(self.score() if self.best else {}),
            "epochs": len(self.epochs),
            "seconds": round(sum(epoch.seconds for epoch in self.epochs), 2),
            **{name: json.dumps(self.section.value(name)) for name in self.section.search.space},
            "reason": self.reason,
        }


@dataclass
class Search:
    """The trials of one search, in order: the section's own values first, then values sampled with its seed.

    A space of lists with no more points than trials is tried point by point.
    """

    section: "Train"

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warmup = int(self.section.epochs * EPOCHS_BEFORE_PRUNING)
        self.trials: list[Trial] = []
        self.space = self.section.searched()
        self._grid = self._small_grid()
        self._study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=self.section.seed, n_startup_trials=RANDOM_TRIALS),
            pruner=optuna.pruners.MedianPruner(TRIALS_BEFORE_PRUNING, n_warmup_steps=warmup),
        )

    def __iter__(self) -> Iterator[Trial]:
        """Yield the trials. Optuna learns the result of each before it suggests the next."""
        for number in range(self.count):
            optuna_trial = self._ask(number)
            point = self._suggest(optuna_trial) if optuna_trial else {}
            trial = Trial(number, self.section.with_values(point), optuna_trial)
            self.trials.append(trial)
            yield trial
            if optuna_trial:
                self._tell(trial, optuna_trial)

    def _ask(self, number: int) -> optuna.Trial | None:
        """Return Optuna's next trial; None for the first one if the section's own values are not all in the space."""
        if self._grid:
            self._study.enqueue_trial(self._grid[number])
            return self._study.ask()
        if number > 0:
            return self._study.ask()
        own = self._own_point()
        if own.keys() != self.space.keys():
            return None
        self._study.enqueue_trial(own)
        return self._study.ask()

    @property
    def count(self) -> int:
        """The number of trials: one if the space is empty, and no more than there are points."""
        if self._grid:
            return len(self._grid)
        return self.section.search.trials if self.space else 1

    @cached_property
    def planned_epochs(self) -> int:
        """The number of epochs of the longest trial, if it is neither pruned nor stopped early."""
        lists = {name: values for name, values in self.space.items() if isinstance(values, list)}
        changed = (self.section.with_values({name: value}) for name, values in lists.items() for value in values)
        return max(section.planned_epochs for section in (self.section, *changed))

    def _small_grid(self) -> list[dict[str, Any]]:
        """Return all points of a space of lists, the section's own first.

        Return none if there are more points than trials, or if the section's own values are not among them.
        """
        choices = {name: candidates for name, candidates in self.space.items() if isinstance(candidates, list)}
        points = math.prod(len(candidates) for candidates in choices.values())
        if not choices or len(choices) < len(self.space) or points > self.section.search.trials:
            return []
        grid = [
            dict(zip(choices, map(json.dumps, values), strict=True)) for values in itertools.product(*choices.values())
        ]
        own = self._own_point()
        return sorted(grid, key=lambda point: point != own) if own in grid else []

    @property
    def best(self) -> Trial:
        """The complete trial with the best epoch; raises FlowermlError if no trial is complete."""
        complete = [trial for trial in self.trials if trial.state == "complete" and trial.best]
        if not complete:
            reasons = "; ".join(dict.fromkeys(trial.reason for trial in self.trials))
            raise FlowermlError(f"no trial of the search completed: {reasons}")
        return max(complete, key=lambda trial: _key(trial.best))

    def _own_point(self) -> dict[str, Any]:
        """Return the section's own values, as far as they are in the space."""
        point = {}
        for name, candidates in self.space.items():
            value = self.section.value(name)
            if isinstance(candidates, list):
                if value in candidates:
                    # The choice as it is written: 0 and 0.0 are equal, but their JSON is not.
                    point[name] = json.dumps(candidates[candidates.index(value)])
            elif value is not None and candidates.low <= value <= candidates.high:
                point[name] = value
        return point

    def _suggest(self, optuna_trial: optuna.Trial) -> dict[str, Any]:
        types = {"seed": int, **self.section.searchable()}
        return {
            name: _suggest(optuna_trial, name, candidates, whole=not _holds_float(types[name]))
            for name, candidates in self.space.items()
        }

    def _tell(self, trial: Trial, optuna_trial: optuna.Trial) -> None:
        if trial.state == "failed" or trial.best is None:
            self._study.tell(optuna_trial, state=optuna.trial.TrialState.FAIL)
        elif trial.state == "pruned":
            self._study.tell(optuna_trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(optuna_trial, trial.best.valid_accuracy)


def _suggest(optuna_trial: optuna.Trial, name: str, candidates: "Candidates", *, whole: bool) -> Any:
    if isinstance(candidates, list):
        # As JSON: Optuna's categories may not be lists.
        return json.loads(optuna_trial.suggest_categorical(name, [json.dumps(choice) for choice in candidates]))
    if whole:
        return optuna_trial.suggest_int(name, candidates.low, candidates.high, log=candidates.log)
    return optuna_trial.suggest_float(name, candidates.low, candidates.high, log=candidates.log)


def _holds_float(annotation: Any) -> bool:
    """Return whether a type is float or a union with it, such as float | None."""
    return annotation is float or any(map(_holds_float, get_args(annotation)))


def _key(epoch: Epoch | None) -> tuple[float, float]:
    assert epoch is not None
    return (epoch.valid_accuracy, -epoch.valid_loss)
