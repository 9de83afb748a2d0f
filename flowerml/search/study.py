"""The search over train.search.space, with Optuna: which values to try next, and which trials to prune."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna

from flowerml.core.errors import FlowermlError
from flowerml.engine.fit import Epoch

if TYPE_CHECKING:
    from flowerml.config.params import Candidates, Train

# Random points before the Tree-structured Parzen Estimator (Bergstra et al., 2011) takes over; Optuna's ten would
# leave nothing for it to do in a search of a dozen trials.
RANDOM_TRIALS = 5
# No trial is pruned before so many others have been seen, nor before this share of its epochs.
TRIALS_BEFORE_PRUNING = 3
EPOCHS_BEFORE_PRUNING = 1 / 3


class Trial:
    """One point of the search space: told of every epoch, it says whether to continue."""

    def __init__(self, number: int, section: "Train", asked: optuna.Trial | None) -> None:
        self.number = number
        self.section = section
        self.epochs: list[Epoch] = []
        self.state = "complete"
        self.reason = ""
        self._asked = asked

    @property
    def best(self) -> Epoch | None:
        """The epoch with the highest validation accuracy; ties are broken by lower loss."""
        return max(self.epochs, key=_key, default=None)

    def report(self, epoch: Epoch) -> bool:
        """Record an epoch; return whether the trial should be pruned.

        The best accuracy so far is compared: the same number that picks the winner.
        """
        self.epochs.append(epoch)
        if self._asked is None:
            return False
        assert self.best is not None
        self._asked.report(self.best.valid_accuracy, epoch.number)
        if self.section.search.prune and self._asked.should_prune():
            self.state = "pruned"
            self.reason = f"below the median of the other trials after epoch {epoch.number}"
            return True
        return False

    def restore(self, epochs: Iterable[Epoch], *, state: str, reason: str) -> None:
        """Restore what an earlier attempt at the same search has recorded of the trial, and its state then."""
        for epoch in epochs:
            self.report(epoch)
        self.state, self.reason = state, reason

    def fail(self, reason: str) -> None:
        """End the trial without a result."""
        self.state, self.reason = "failed", reason

    def score(self) -> dict[str, float]:
        """Return what the trial is judged by, under the names that MLflow and DVC show."""
        assert self.best is not None, "only a trial that has seen an epoch has a score"
        best = self.best
        return {
            "best_valid_accuracy": best.valid_accuracy,
            "best_valid_loss": best.valid_loss,
            "best_epoch": best.number,
        }

    def row(self) -> dict[str, Any]:
        """Return the trial as a row of a table."""
        return {
            "trial": self.number,
            "state": self.state,
            **(self.score() if self.best else {}),
            "epochs": len(self.epochs),
            "seconds": round(sum(epoch.seconds for epoch in self.epochs), 2),
            **{name: json.dumps(getattr(self.section, name)) for name in self.section.search.space},
            "reason": self.reason,
        }


@dataclass
class Search:
    """The trials of one search, in order. The first is the section as it stands; the rest are drawn from its seed."""

    section: "Train"

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warmup = int(self.section.epochs * EPOCHS_BEFORE_PRUNING)
        self.trials: list[Trial] = []
        self._study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=self.section.seed, n_startup_trials=RANDOM_TRIALS),
            pruner=optuna.pruners.MedianPruner(TRIALS_BEFORE_PRUNING, n_warmup_steps=warmup),
        )

    def __iter__(self) -> Iterator[Trial]:
        """Yield the trials; each is closed with what it has recorded before the next one begins."""
        for number in range(self.count):
            asked = self._ask(number)
            point = self._suggest(asked) if asked else {}
            trial = Trial(number, self.section.with_values(point), asked)
            self.trials.append(trial)
            yield trial
            if asked:
                self._close(trial, asked)

    def _ask(self, number: int) -> optuna.Trial | None:
        """Return the study's next trial; None for the first, where the section's own values are not all in the space."""
        if number > 0:
            return self._study.ask()
        own = self._own_point()
        if own.keys() != self.section.search.space.keys():
            return None
        self._study.enqueue_trial(own)
        return self._study.ask()

    @property
    def count(self) -> int:
        """The number of trials: one, where there is nothing to choose."""
        return self.section.search.trials if self.section.search.space else 1

    @property
    def best(self) -> Trial:
        """The complete trial with the best epoch; raises FlowermlError where there is none."""
        complete = [trial for trial in self.trials if trial.state == "complete" and trial.best]
        if not complete:
            reasons = "; ".join(dict.fromkeys(trial.reason for trial in self.trials))
            raise FlowermlError(f"no trial of the search ended well: {reasons}")
        return max(complete, key=lambda trial: _key(trial.best))

    def _own_point(self) -> dict[str, Any]:
        """Return those of the section's own values that are in the space."""
        point = {}
        for name, candidates in self.section.search.space.items():
            value = getattr(self.section, name)
            if isinstance(candidates, list):
                if value in candidates:
                    # As it is written among the choices: 0 and 0.0 are the same number, but not the same JSON.
                    point[name] = json.dumps(candidates[candidates.index(value)])
            elif value is not None and candidates.low <= value <= candidates.high:
                point[name] = value
        return point

    def _suggest(self, asked: optuna.Trial) -> dict[str, Any]:
        fields = type(self.section).model_fields
        return {
            name: _suggest(asked, name, candidates, whole=fields[name].annotation is not float)
            for name, candidates in self.section.search.space.items()
        }

    def _close(self, trial: Trial, asked: optuna.Trial) -> None:
        if trial.state == "failed" or trial.best is None:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        elif trial.state == "pruned":
            self._study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(asked, trial.best.valid_accuracy)


def _suggest(asked: optuna.Trial, name: str, candidates: "Candidates", *, whole: bool) -> Any:
    if isinstance(candidates, list):
        # As JSON, since Optuna's categories may not be lists.
        return json.loads(asked.suggest_categorical(name, [json.dumps(choice) for choice in candidates]))
    if whole:
        return asked.suggest_int(name, candidates.low, candidates.high, log=candidates.log)
    return asked.suggest_float(name, candidates.low, candidates.high, log=candidates.log)


def _key(epoch: Epoch | None) -> tuple[float, float]:
    assert epoch is not None
    return (epoch.valid_accuracy, -epoch.valid_loss)
