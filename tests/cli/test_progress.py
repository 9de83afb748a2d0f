import io
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from flowerml.cli import curves, progress
from flowerml.engine.fit import Epoch


@dataclass
class Trial:
    """A trial as a display sees it, with made-up epochs."""

    number: int
    epochs: list[Epoch] = field(default_factory=list)
    kind: str = "trial"
    state: str = "complete"
    reason: str = ""
    last: int | None = None
    finished: bool = False
    section: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(planned_epochs=4))

    @property
    def name(self) -> str:
        return f"trial {self.number}"

    @property
    def best(self) -> Epoch | None:
        return max(self.epochs, key=lambda epoch: epoch.valid_accuracy, default=None)


class Plan:
    """A search of `count` trials of `epochs` epochs."""

    def __init__(self, count: int, epochs: int = 4) -> None:
        self.count, self.total_epochs, self.planned_epochs = count, count * epochs, epochs
        self.trials: list[Trial] = []

    @property
    def best(self) -> Trial:
        return max(
            (trial for trial in self.trials if trial.finished), key=lambda trial: trial.epochs[-1].valid_accuracy
        )

    def planned(self, kind: str) -> tuple[int, int]:
        return self.count, self.planned_epochs

    def done_epochs(self, kind: str | None = None) -> int:
        return sum(len(trial.epochs) for trial in self.trials)

    def run(self, display: progress.Live | progress.Lines) -> None:
        with display:
            for number in range(self.count):
                self.trials.append(trial := Trial(number))
                for epoch in range(1, self.planned_epochs + 1):
                    trial.epochs.append(Epoch(epoch, 1 / epoch, 0.5, 1 / epoch, 0.9 - number / 10, 0.01, 0.1))
                    display.epoch(trial, trial.epochs[-1])
                trial.finished = True
                display.trial(trial)


def test_log_has_a_line_for_each_trial(capsys):
    plan = Plan(3)
    plan.run(progress.Lines(plan))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[1] == "trial 2/3 complete: valid accuracy 0.8000; best 0.9000 (trial 1)"


def test_log_of_one_training_has_its_epochs(capsys):
    plan = Plan(1)
    plan.run(progress.Lines(plan))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["epoch 1/4", "epoch 2/4", "epoch 3/4", "epoch 4/4"]


def test_log_of_a_long_training_is_short(capsys):
    plan = Plan(1, epochs=5000)
    plan.run(progress.Lines(plan))
    assert len(capsys.readouterr().err.splitlines()) == progress.MOST_LINES


def test_log_of_a_large_search_is_short(capsys):
    plan = Plan(2000, epochs=1)
    plan.run(progress.Lines(plan))
    assert len(capsys.readouterr().err.splitlines()) == progress.MOST_LINES


def test_log_as_often_as_wanted(capsys, monkeypatch):
    monkeypatch.setenv("FLOWERML_LOG_SECONDS", "0")
    plan = Plan(3)
    plan.run(progress.Lines(plan))
    assert len(capsys.readouterr().err.splitlines()) == 3 * 4 + 3


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that gives a terminal of some columns and lines in place of stderr."""

    def make(columns: int, lines: int = 24, term: str = "xterm") -> Terminal:
        stream = Terminal()
        monkeypatch.setattr("sys.stderr", stream)
        for name, value in {"COLUMNS": columns, "LINES": lines, "TERM": term}.items():
            monkeypatch.setenv(name, str(value))
        return stream

    return make


@pytest.mark.parametrize(("columns", "lines", "plots"), [(80, 24, 2), (50, 24, 1), (28, 24, 0), (80, 8, 0)])
def test_terminal_shows_curves_where_there_is_room(terminal, columns, lines, plots):
    stream, plan = terminal(columns, lines), Plan(2)
    display = progress.reporter(plan)
    assert isinstance(display, progress.Live)
    plan.run(display)
    lines_after = stream.getvalue().rpartition("trial 2/2 complete")[2].splitlines()
    assert max(line.count("│") for line in lines_after) == plots


def test_dumb_terminal_gets_lines(terminal):
    terminal(80, term="dumb")
    assert isinstance(progress.reporter(Plan(1)), progress.Lines)


def test_linux_console_has_no_braille(terminal):
    stream, plan = terminal(80, term="linux"), Plan(1)
    plan.run(progress.reporter(plan))
    assert not any("⠀" < character <= "⣿" for character in stream.getvalue())


def test_curve_of_one_epoch_and_of_none():
    assert "⠄" in curves.drawn({"train": [0.5], "valid": []}, width=30, height=3, last=1).plain
    assert len(curves.drawn({"train": [], "valid": []}, width=30, height=3, last=1).plain.splitlines()) == 3


def test_curve_has_gaps_where_a_value_is_not_finite():
    plot = curves.Plot(width=4, height=1, last=3, low=0.0, high=1.0)
    assert plot.line([0.0, math.nan, math.inf]) == {(0, 3)}
