"""The progress of a search: the protocol of a display, and a tqdm bar."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, Self

from tqdm import tqdm

from flowerml.engine.fit import Epoch
from flowerml.search.trial import Trial


class Plan(Protocol):
    """The trials of a search, or the trainings after it, as a display sees them. Several may be in flight."""

    trials: list[Trial]

    @property
    def count(self) -> int:
        """The number of trials."""

    @property
    def total_epochs(self) -> int:
        """The number of epochs of all trials, if none is pruned or stopped early."""

    @property
    def best(self) -> Trial:
        """The best trial; raises FlowermlError if none is complete."""

    def planned(self, kind: str) -> tuple[int, int]:
        """Return the number of trials of a kind, and that of epochs of the longest one."""

    def done_epochs(self, kind: str | None = None) -> int:
        """Return the number of epochs that are done, of all trials or of a kind; a finished trial has done all."""


class Progress(Protocol):
    """A display that is updated after every epoch and every trial of a search."""

    def epoch(self, trial: Trial, epoch: Epoch) -> None:
        """Show that an epoch of this trial has finished."""

    def trial(self, trial: Trial) -> None:
        """Show that this trial has finished."""


ShowProgress = Callable[[Plan], AbstractContextManager[Progress]]


class Tally:
    """The epochs that are done, by the kind of their trials: those of trials in flight, and all that were planned for
    finished ones, also where these were pruned.

    >>> from types import SimpleNamespace as Namespace
    >>> tally, first, second = Tally(), Namespace(kind="trial", epochs=[1]), Namespace(kind="trial", epochs=[1, 2])
    >>> tally.begin(first), tally.begin(second), tally.finish(first, 25)
    (None, None, None)
    >>> tally.epochs("trial")
    27
    """

    def __init__(self) -> None:
        self._finished: dict[str, int] = {}
        self._running: list[Trial] = []

    def begin(self, trial: Trial) -> None:
        """Count the epochs of a trial from now on."""
        self._running.append(trial)

    def finish(self, trial: Trial, planned: int) -> None:
        """Count all epochs of a trial that were planned."""
        self._running.remove(trial)
        self._finished[trial.kind] = self._finished.get(trial.kind, 0) + planned

    def epochs(self, kind: str | None = None) -> int:
        """Return the epochs that are done, of all trials or of those of a kind."""
        finished = sum(self._finished.values()) if kind is None else self._finished.get(kind, 0)
        return finished + sum(len(trial.epochs) for trial in self._running if kind in (None, trial.kind))


class Bar:
    """One bar for the whole search, in epochs."""

    def __init__(self, search: Plan) -> None:
        self._search = search
        self._bar = tqdm(total=search.total_epochs, desc="search", unit="epoch")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def epoch(self, trial: Trial, epoch: Epoch) -> None:
        """Advance by one epoch."""
        self._bar.update(self._search.done_epochs() - self._bar.n)

    def trial(self, trial: Trial) -> None:
        """Advance past the epochs that the trial did not need, and show the best score."""
        self._bar.update(self._search.done_epochs() - self._bar.n)
        self._bar.set_postfix_str(best_so_far(self._search))


def best_so_far(search: Plan) -> str:
    """Return a few words on the score of the best trial."""
    complete = any(trial.finished and trial.state == "complete" for trial in search.trials)
    if not complete or search.best.best is None:
        return "no result yet"
    return f"best valid accuracy {search.best.best.valid_accuracy:.4f} ({search.best.name})"
