"""The order of a sampler's trials: which of them have been told when the next one is asked."""

import math

import optuna

from flowerml.search.pruning import NEVER, Medians, Stop
from flowerml.search.sampling import Sampler
from flowerml.search.trial import Trial


class Series:
    """The trials of one sampler. Trial n is asked when exactly the trials 0 … n - `ahead` have been told.

    They are told in the order of their numbers, and a trial is pruned against those alone. So what is tried depends on
    `ahead`, and never on time or on the number of workers; with `ahead` 1 one trial ends before the next begins.
    Points of a grid that are not pruned depend on no other trial, and may all run at once.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        search = sampler.section.search
        self._ahead = math.inf if sampler.is_grid and not search.prune else search.ahead
        self._medians = Medians(sampler.epochs_before_pruning) if search.prune else None
        self._trials: list[tuple[Trial, optuna.Trial | None]] = []
        self._told = 0

    @property
    def at_once(self) -> int:
        """The number of trials that may run at the same time."""
        return int(min(self.sampler.count, self._ahead))

    @property
    def is_finished(self) -> bool:
        """Whether all trials have ended."""
        return len(self._trials) == self.sampler.count and all(trial.finished for trial, _ in self._trials)

    def ask(self, number: int, *, kind: str) -> Trial | None:
        """Return the next trial, the `number`th of the search; None while its time has not come, and after the last."""
        position = len(self._trials)
        until = max(position - self._ahead + 1, 0)
        if position == self.sampler.count or not self._tell(until):
            return None
        section, optuna_trial = self.sampler.ask(position)
        trial = Trial(number, section, self._stop(optuna_trial), kind=kind, position=position)
        self._trials.append((trial, optuna_trial))
        return trial

    def _tell(self, until: float) -> bool:
        """Tell the trials before `until`; return False if one of them has not ended."""
        while self._told < until:
            trial, optuna_trial = self._trials[self._told]
            if not trial.finished:
                return False
            if optuna_trial is not None:
                accuracies = [epoch.valid_accuracy for epoch in trial.epochs]
                accuracy = trial.best.valid_accuracy if trial.best else None
                self.sampler.tell(optuna_trial, trial.state, accuracy, accuracies)
                if self._medians is not None and trial.state == "complete" and accuracy is not None:
                    self._medians.add(accuracies)
            self._told += 1
        return True

    def _stop(self, optuna_trial: optuna.Trial | None) -> Stop:
        # A trial that the study does not know, of values outside of the space, is not compared with the others.
        return Stop(medians=self._medians.snapshot()) if self._medians and optuna_trial else NEVER
