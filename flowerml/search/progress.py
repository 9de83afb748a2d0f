"""Showing how far a search has come."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, Self

from tqdm import tqdm

from flowerml.engine.fit import Epoch
from flowerml.search.study import Search, Trial


class Progress(Protocol):
    """Is told of every epoch and every trial of a search."""

    def epoch(self, trial: Trial, epoch: Epoch) -> None:
        """An epoch of this trial has ended."""

    def trial(self, search: Search) -> None:
        """The last of the search's trials has ended."""


Shows = Callable[[Search], AbstractContextManager[Progress]]


class Bar:
    """One bar for a whole search, in epochs."""

    def __init__(self, search: Search) -> None:
        self._bar = tqdm(total=search.count * search.section.epochs, desc="search", unit="epoch")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def epoch(self, trial: Trial, epoch: Epoch) -> None:
        """Advance by one."""
        self._bar.update()

    def trial(self, search: Search) -> None:
        """Advance by the epochs that the trial did not need, too."""
        self._bar.update(len(search.trials) * search.section.epochs - self._bar.n)
        self._bar.set_postfix_str(best_so_far(search))


def best_so_far(search: Search) -> str:
    """Return the score of the best trial, in words."""
    complete = any(trial.state == "complete" for trial in search.trials)
    if not complete or search.best.best is None:
        return "no result yet"
    return f"best valid accuracy {search.best.best.valid_accuracy:.4f} (trial {search.best.number})"
