import sys

import pytest

from flowerml.core import progress
from flowerml.core.errors import FlowermlError


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setenv(progress.VARIABLE, "0")


def test_log_has_whole_lines(often, capsys):
    bar = progress.bar(total=2000, desc="encode", unit="example")
    bar.update(500)
    bar.refresh()
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("encode: 500 of 2,000 examples (25 %), ")
    assert not any("\r" in line for line in lines)


def test_short_work_prints_nothing(capsys):
    assert sum(progress.bar(range(5000), desc="extract")) == sum(range(5000))
    assert capsys.readouterr().err == ""


def test_unknown_total_is_left_out(often, capsys):
    with progress.bar(desc="photographs", unit="B", unit_scale=True) as bar:
        bar.update(12_345_678)
        bar.refresh()
    assert capsys.readouterr().err.splitlines()[-1] == "photographs: 12.3MB"


def test_messages_between_stay_whole(often, capsys):
    with progress.bar(total=3) as bar:
        bar.write("a warning", file=sys.stderr)
    assert "a warning\n" in capsys.readouterr().err


def test_seconds_are_a_number(monkeypatch):
    monkeypatch.setenv(progress.VARIABLE, "often")
    with pytest.raises(FlowermlError, match="FLOWERML_LOG_SECONDS: expected a number of seconds, found 'often'"):
        progress.bar(total=1)


def test_terminal_has_a_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.bar(total=1, disable=True) as bar:
        assert not isinstance(bar, progress.Lines)
