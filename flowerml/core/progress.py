"""Progress of long work on stderr: tqdm's bar on a terminal, a line now and then in a log file."""

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from flowerml.core.errors import FlowermlError

if TYPE_CHECKING:
    _Bar = tqdm[Any]  # generic in its stubs alone
else:
    _Bar = tqdm

SECONDS = 15.0  # between two lines of a log; work that takes less prints none
NOTEBOOK_SECONDS = 20.0  # before a bar appears in a notebook, which shows stderr as an error and keeps it
VARIABLE = "FLOWERML_LOG_SECONDS"  # sets another number of seconds


def bar(*args: Any, **options: Any) -> "tqdm[Any]":
    """Return tqdm's bar on a terminal or in a notebook, and lines elsewhere; the arguments are those of tqdm.

    A bar in a log file is one line of hundreds of carriage returns: 16 KB of 17 KB that a small `dvc repro` printed.
    """
    if in_notebook():
        options = {"delay": NOTEBOOK_SECONDS, **options}
    return (tqdm if shows_bars() else Lines)(*args, **options)


def in_notebook() -> bool:
    """Return whether a notebook's kernel runs this."""
    return "ipykernel" in sys.modules


def shows_bars() -> bool:
    """Return whether what is written to stderr can be overwritten: on a terminal, and in a notebook."""
    return sys.stderr.isatty() or in_notebook()


def seconds_between() -> float:
    """Return the seconds between two lines in a log file; raises FlowermlError for a setting that is no number."""
    setting = os.environ.get(VARIABLE)
    try:
        return SECONDS if setting is None else float(setting)
    except ValueError:
        raise FlowermlError(f"{VARIABLE}: expected a number of seconds, found {setting!r}") from None


class Lines(_Bar):
    """A tqdm that prints whole lines, some seconds apart."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._shown, self._seconds = time.monotonic(), seconds_between()
        super().__init__(*args, **{**options, "mininterval": 1.0})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Print a line, unless the last one was printed a moment ago."""
        if time.monotonic() - self._shown >= self._seconds and msg != "":
            self._shown = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def clear(self, nolock: bool = False) -> None:
        """Do nothing, as lines stay."""

    def close(self) -> None:
        """Stop, without a last bar."""
        self.leave = False
        super().close()

    def _line(self) -> str:
        facts = self.format_dict
        done, total, name = facts["n"], facts["total"], facts["prefix"] or "done"
        if not total:
            return f"{name}: {self._amount(done)}"
        left = (total - done) * facts["elapsed"] / max(done - facts["initial"], 1)
        share = f"{100 * done / total:.0f} %"
        return f"{name}: {self._count(done)} of {self._amount(total)} ({share}), {duration(left)} left"

    def _amount(self, count: float) -> str:
        return f"{self._count(count)}{self.unit if self.unit_scale else f' {self.unit}s'}"

    def _count(self, count: float) -> str:
        return self.format_sizeof(count) if self.unit_scale else f"{count:,}"


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds.

    >>> duration(3723), duration(123), duration(3)
    ('1:02:03', '2:03', '3 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"
