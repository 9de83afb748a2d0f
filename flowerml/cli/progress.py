"""The progress of a search: learning curves and a bar on a terminal, lines elsewhere."""

import math
import os
import sys
import time
from typing import TYPE_CHECKING, Self

from flowerml.cli import curves
from flowerml.cli.output import console, safe, say
from flowerml.core.progress import duration, seconds_between

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as RichProgress

    from flowerml.engine.fit import Epoch
    from flowerml.search.progress import Plan
    from flowerml.search.trial import Trial

WIDE = 68  # columns for two plots beside each other
NARROW = 30  # columns that a plot needs
LOW = 14  # lines of a terminal that has room for plots
HEIGHT = 6  # lines of a plot
REFRESHES = 4  # a second: drawing takes 3 ms, and an epoch of a head 8
MOST_LINES = 100  # of epochs or trials that are all printed


class Live:
    """The curves of a trial, and a bar with the best trial so far and the time left.

    Several trials may be in flight: the one that is shown stays until it has finished. At the end it is the best one.
    """

    def __init__(self, search: "Plan") -> None:
        from rich import live

        self._search = search
        self._shown: Trial | None = None
        self._console = console(stderr=True)
        self._plots = _has_braille()  # now, as Rich puts a stream without an encoding in place of stderr
        self._bar = _bar(self._console)
        self._task = self._bar.add_task("train", total=search.total_epochs, numbers="")
        self._live = live.Live(
            get_renderable=self._picture, console=self._console, refresh_per_second=REFRESHES, transient=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        best = _best(self._search)
        if best is not None and best.epochs:
            self._shown = best
            self._bar.update(self._task, description=_position(self._search, best, best.epochs[-1]))
        self._live.stop()

    def epoch(self, trial: "Trial", epoch: "Epoch") -> None:
        """Show an epoch."""
        if self._shown is None or self._shown.finished or self._shown is trial:
            self._shown = trial
            self._bar.update(
                self._task,
                completed=self._search.done_epochs(),
                description=_position(self._search, trial, epoch),
                numbers=_best_so_far(self._search, trial),
            )

    def trial(self, trial: "Trial") -> None:
        """Print the trial's score, and count the epochs that it skipped as done."""
        best = _best_so_far(self._search, trial)
        self._bar.update(self._task, completed=self._search.done_epochs(), numbers=best)
        if _title(self._search, trial):
            self._live.console.print(safe(_score(self._search, trial)))

    def _picture(self) -> "RenderableType":
        from rich.console import Group

        trial, size = self._shown, self._console.size
        if trial is None or not trial.epochs or not self._plots or size.height < LOW or size.width < NARROW:
            return self._bar
        return Group(_plots(trial, size.width), self._bar)


class Lines:
    """Lines for a log file.

    Each trial of a search is one, and so is each epoch of a training without a search, up to MOST_LINES. Others are
    printed now and then: see `flowerml.core.progress.seconds_between`.
    """

    def __init__(self, search: "Plan") -> None:
        self._search = search
        # By kind: the time of the first epoch, and the number of those done before it.
        self._starts: dict[str, tuple[float, int]] = {}
        self._last = self._printed = time.monotonic()
        self._seconds = seconds_between()

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
        is_alone = self._search.count == 1 and epoch.number <= MOST_LINES
        self._print(f"{_position(self._search, trial, epoch)}: {_numbers(epoch)}, {left} left{of}", always=is_alone)

    def trial(self, trial: "Trial") -> None:
        """Print the trial's score, and the best one so far."""
        if _title(self._search, trial):
            best = _best_so_far(self._search, trial)
            always = trial.number < MOST_LINES
            self._print(f"{_score(self._search, trial)}{best and f'; {best}'}", always=always)

    def _print(self, line: str, *, always: bool) -> None:
        now = time.monotonic()
        if always or now - self._printed >= self._seconds:
            self._printed = now
            say(line)


def reporter(search: "Plan") -> Live | Lines:
    """Return curves and a bar where stderr is a terminal that can move its cursor, lines elsewhere."""
    return Live(search) if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Lines(search)


def _bar(console: "Console") -> "RichProgress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(10),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
        console=console,
    )


def _plots(trial: "Trial", width: int) -> "RenderableType":
    """Return the accuracy and, if there is room, the loss beside it."""
    from rich.table import Table

    names = ("accuracy", "loss") if width >= WIDE else ("accuracy",)
    each = (width - 2 * (len(names) - 1)) // len(names)
    grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    for _ in names:
        grid.add_column(width=each - 1, no_wrap=True)
    last = trial.last or trial.section.planned_epochs
    series = [_series(trial, name) for name in names]
    grid.add_row(*(_legend(name, values) for name, values in zip(names, series, strict=True)))
    grid.add_row(*(curves.drawn(values, width=each - 1, height=HEIGHT, last=last) for values in series))
    return grid


def _series(trial: "Trial", measure: str) -> dict[str, list[float]]:
    return {split: [getattr(epoch, f"{split}_{measure}") for epoch in trial.epochs] for split in curves.STYLES}


def _legend(measure: str, series: dict[str, list[float]]) -> "RenderableType":
    from rich.text import Text

    values = [
        (f"  {split} {values[-1]:.3f}", curves.STYLES[split])
        for split, values in series.items()
        if math.isfinite(values[-1])
    ]
    return Text.assemble((measure, "bold"), *values)


def _has_braille() -> bool:
    """Return whether the terminal can show the characters; the Linux console has no font for them."""
    encoding = (getattr(sys.stderr, "encoding", None) or "").lower()
    return encoding.startswith("utf") and os.environ.get("TERM") != "linux"


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


def _best(search: "Plan") -> "Trial | None":
    """Return the best trial that is complete."""
    if not any(trial.finished and trial.state == "complete" for trial in search.trials):
        return None
    return search.best


def _best_so_far(search: "Plan", trial: "Trial") -> str:
    """Return the accuracy of the best trial that is complete, else of this one; nothing where there is none yet."""
    best = _best(search) or trial
    if best.best is None or math.isnan(best.best.valid_accuracy):
        return ""
    where = _title(search, best).partition("/")[0] if best.finished else ""
    where = where or f"epoch {best.best.number}"
    return f"best {best.best.valid_accuracy:.4f} ({where})"
