"""The progress of a search: the protocol of a display, and a tqdm bar."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, Self

from tqdm import tqdm

from flowerml.engine.fit import Epoch
from flowerml.search.study import Search, Trial


class Progress(Protocol):
    """A display that is updated after every epoch and every trial of a search."""

    def epoch(self, trial: Trial, epoch: Epoch) -> None:
        """Show that an epoch of this trial has finished."""

    def trial(self, search: Search) -> None:
        """Show that the latest trial of the search has finished."""


ShowProgress = Callable[[Search], AbstractContextManager[Progress]]


class Bar:
    """One bar for the whole search, in epochs."""

    def __init__(self, search: Search) -> None:
        self._bar = tqdm(total=search.total_epochs, desc="search", unit="epoch")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def epoch(self, trial: Trial, epoch: Epoch) -> None:
        """Advance by one epoch."""
        self._bar.update()

    def trial(self, search: Search) -> None:
        """Advance past the epochs that the trial did not need, and show the best score."""
        self._bar.update(search.epochs_before(len(search.trials)) - self._bar.n)
        self._bar.set_postfix_str(best_so_far(search))


def best_so_far(search: Search) -> str:
    """Return a few words on the score of the best trial."""
    complete = any(trial.state == "complete" for trial in search.trials)
    if not complete or search.best.best is None:
        return "no result yet"
    return f"best valid accuracy {search.best.best.valid_accuracy:.4f} (trial {search.best.number})"
