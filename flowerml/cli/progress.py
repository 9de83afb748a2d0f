"""The progress of a search: a live bar on a terminal, lines elsewhere."""

import math
import sys
import time
from typing import TYPE_CHECKING, Self

from flowerml.cli.output import console, safe, say
from flowerml.core.progress import duration

if TYPE_CHECKING:
    from flowerml.engine.fit import Epoch
    from flowerml.search.progress import Plan
    from flowerml.search.trial import Trial


class Live:
    """A bar with the last epoch's metrics on valid and the time left; 80 columns have no room for more."""

    def __init__(self, search: "Plan") -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._search = search
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(10),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console(stderr=True),
        )
        self._task = self._bar.add_task("train", total=search.total_epochs, numbers="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def epoch(self, trial: "Trial", epoch: "Epoch") -> None:
        """Show the metrics of an epoch."""
        done = self._search.done_epochs()
        numbers = _numbers(epoch).rpartition("; ")[2]
        self._bar.update(self._task, completed=done, description=_position(self._search, trial, epoch), numbers=numbers)

    def trial(self, trial: "Trial") -> None:
        """Print the trial's score, and count the epochs that it skipped as done."""
        self._bar.update(self._task, completed=self._search.done_epochs())
        if _title(self._search, trial):
            self._bar.console.print(safe(_score(self._search, trial)))


class Lines:
    """One line for each epoch."""

    def __init__(self, search: "Plan") -> None:
        self._search = search
        # By kind: the time of the first epoch, and the number of those done before it.
        self._starts: dict[str, tuple[float, int]] = {}
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def epoch(self, trial: "Trial", epoch: "Epoch") -> None:
        """Print the metrics of an epoch, and the time left at the average speed of the trials of its kind so far.

        An epoch of a head alone takes milliseconds where one that fine-tunes takes minutes. Epochs that an earlier run
        had done took no time in this one.
        """
        done = self._search.done_epochs(trial.kind)
        if trial.kind not in self._starts:
            self._starts[trial.kind] = self._last, done - 1
        self._last = time.monotonic()
        count, planned = self._search.planned(trial.kind)
        started, before = self._starts[trial.kind]
        left = duration((count * planned - done) * (self._last - started) / (done - before))
        of = " of the head alone" if trial.kind == "head" else ""
        say(f"{_position(self._search, trial, epoch)}: {_numbers(epoch)}, {left} left{of}")

    def trial(self, trial: "Trial") -> None:
        """Print the trial's score."""
        if _title(self._search, trial):
            say(_score(self._search, trial))


def reporter(search: "Plan") -> Live | Lines:
    """Return a bar where stderr is a terminal, lines elsewhere."""
    return Live(search) if sys.stderr.isatty() else Lines(search)


def _position(search: "Plan", trial: "Trial", epoch: "Epoch") -> str:
    position = f"epoch {epoch.number}/{trial.last or trial.section.planned_epochs}"
    title = _title(search, trial)
    return f"{title}, {position}" if title else position


def _title(search: "Plan", trial: "Trial") -> str:
    """Return which trial it is; nothing where it is the only one."""
    if trial.kind in ("trial", "head"):
        return f"trial {trial.number + 1}/{search.count}" if search.count > 1 else ""
    return trial.name


def _numbers(epoch: "Epoch") -> str:
    train = f"train loss {epoch.train_loss:.3f}, accuracy {epoch.train_accuracy:.3f}"
    if math.isnan(epoch.valid_accuracy):
        return train
    return f"{train}; valid loss {epoch.valid_loss:.3f}, accuracy {epoch.valid_accuracy:.3f}"


def _score(search: "Plan", trial: "Trial") -> str:
    best = trial.best
    score = f"valid accuracy {best.valid_accuracy:.4f}" if best else "no result"
    if best and math.isnan(best.valid_accuracy):
        score = "trained on train and valid"
    reason = f" ({trial.reason})" if trial.reason else ""
    return f"{_title(search, trial)} {trial.state}: {score}{reason}"
