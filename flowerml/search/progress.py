"""The progress of a search: the protocol of a display, and a tqdm bar."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, Self

from tqdm import tqdm

from flowerml.engine.fit import Epoch
from flowerml.search.study import Trial


class Plan(Protocol):
    """The trials of a search, or the trainings after it, as a display sees them."""

    trials: list[Trial]

    @property
    def count(self) -> int:
        """The number of trials."""

    @property
    def total_epochs(self) -> int:
        """The number of epochs of all trials, if none is pruned or stopped early."""

    @property
    def next_number(self) -> int:
        """The number of the next trial."""

    @property
    def best(self) -> Trial:
        """The best trial; raises FlowermlError if none is complete."""

    def planned(self, kind: str) -> tuple[int, int]:
        """Return the number of trials of a kind, and that of epochs of the longest one."""

    def epochs_before(self, number: int) -> int:
        """Return the number of epochs that were planned for the trials before this one."""


class Progress(Protocol):
    """A display that is updated after every epoch and every trial of a search."""

    def epoch(self, trial: Trial, epoch: Epoch) -> None:
        """Show that an epoch of this trial has finished."""

    def trial(self, search: Plan) -> None:
        """Show that the latest trial of the search has finished."""


ShowProgress = Callable[[Plan], AbstractContextManager[Progress]]


class Bar:
    """One bar for the whole search, in epochs."""

    def __init__(self, search: Plan) -> None:
        self._bar = tqdm(total=search.total_epochs, desc="search", unit="epoch")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def epoch(self, trial: Trial, epoch: Epoch) -> None:
        """Advance by one epoch."""
        self._bar.update()

    def trial(self, search: Plan) -> None:
        """Advance past the epochs that the trial did not need, and show the best score."""
        self._bar.update(search.epochs_before(search.next_number) - self._bar.n)
        self._bar.set_postfix_str(best_so_far(search))


def best_so_far(search: Plan) -> str:
    """Return a few words on the score of the best trial."""
    complete = any(trial.state == "complete" for trial in search.trials)
    if not complete or search.best.best is None:
        return "no result yet"
    return f"best valid accuracy {search.best.best.valid_accuracy:.4f} ({search.best.name})"
