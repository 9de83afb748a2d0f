"""The points of a search space, chosen by Optuna.

The study is in memory, and is restored by replaying the trials of the checkpoint: none of Optuna's storages keeps a
half-trained network. A trial also costs 5 ms in memory, 52 ms in a JournalStorage, 306 ms in SQLite and 7 s in
MLflow's MlflowStorage.
"""

import itertools
import json
import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import optuna

from flowerml.search.pruning import EPOCHS_BEFORE_PRUNING, best_so_far

if TYPE_CHECKING:
    from flowerml.config.params import Candidates, Train

# Random trials before the Tree-structured Parzen Estimator (Bergstra et al., 2011) takes over. Optuna's default of ten
# would leave it almost no trial in a search of a dozen.
RANDOM_TRIALS = 5


class Sampler:
    """The points of a section's search space: the section's own values first, then values sampled with its seed.

    A space of lists with no more points than trials is tried point by point.
    """

    def __init__(self, section: "Train") -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.section = section
        self.space = section.searched()
        self._grid = self._small_grid()
        self._study = optuna.create_study(
            direction="maximize",
            # With the constant liar points of trials in flight count as bad ones, so that no two workers try the same.
            sampler=optuna.samplers.TPESampler(seed=section.seed, n_startup_trials=RANDOM_TRIALS, constant_liar=True),
        )

    def ask(self, number: int) -> "tuple[Train, optuna.Trial | None]":
        """Return the section of trial `number`, from 0, with Optuna's trial.

        There is none for the first one if the section's own values are not all in the space.
        """
        optuna_trial = self._ask(number)
        point = self._suggest(optuna_trial) if optuna_trial else {}
        return self.section.with_values(point), optuna_trial

    def tell(self, optuna_trial: optuna.Trial, state: str, accuracy: float | None, accuracies: Sequence[float]) -> None:
        """Tell Optuna how a trial ended, with its best accuracy and that of each epoch."""
        if state == "failed" or accuracy is None:
            self._study.tell(optuna_trial, state=optuna.trial.TrialState.FAIL)
        elif state == "pruned":
            # Not before: a trial in flight must not change what is suggested, as it depends on its speed.
            for number, best in enumerate(best_so_far(accuracies), start=1):
                optuna_trial.report(best, number)
            self._study.tell(optuna_trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(optuna_trial, accuracy)

    @property
    def is_grid(self) -> bool:
        """Whether the space is tried point by point."""
        return bool(self._grid)

    @property
    def plan(self) -> str:
        """How points are chosen, if that depends on the number of trials: by it a small space becomes a grid."""
        return f"all {len(self._grid)} points" if self._grid else "sampled"

    @property
    def epochs_before_pruning(self) -> int:
        """The number of the first epoch after which a trial may be pruned."""
        return int(self.section.epochs * EPOCHS_BEFORE_PRUNING)

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

    def _ask(self, number: int) -> optuna.Trial | None:
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
