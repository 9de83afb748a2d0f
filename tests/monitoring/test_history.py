"""Drift over time: windows of a log, and since when they drifted."""

import pytest

from flowerml.core.errors import DataError
from flowerml.monitoring import history
from flowerml.monitoring.reference import Reference
from tests.monitoring.test_drift import FEATURES, records


@pytest.fixture(scope="module")
def reference():
    return Reference.of(records(200, seed=0), features=FEATURES)


def at(start, rows):
    from dataclasses import replace

    return [replace(record, time=record.time + start) for record in rows]


def test_drift_since_the_first_window_of_the_last_run(reference):
    good, bad = records(200, seed=1), records(200, seed=2, brightness=3.0)
    result = history.history(reference, [*at(0, good), *at(1000, bad)], size=100)
    assert [window.drifted for window in result.windows] == [False, False, True, True]
    assert result.since == 1000.0 and result.latest.since == 1100.0


def test_past_drift_is_over(reference):
    bad, good = records(100, seed=2, brightness=3.0), records(100, seed=1)
    result = history.history(reference, [*at(0, bad), *at(1000, good)], size=100)
    assert result.windows[0].drifted and not result.latest.drifted and result.since is None


def test_last_window_is_full():
    sizes = [len(window) for window in history.windows_of(records(270, seed=1), 100)]
    assert sizes == [70, 100, 100]
    assert [len(window) for window in history.windows_of(records(230, seed=1), 100)] == [100, 100]
    assert [len(window) for window in history.windows_of(records(60, seed=1), 100)] == [60]
    assert [len(window) for window in history.windows_of(records(100, seed=1), 100)] == [100]


def test_windows_are_bounded(reference, monkeypatch):
    monkeypatch.setattr(history, "MOST", 2)
    result = history.history(reference, records(300, seed=1), size=60)
    assert len(result.windows) == 2 and result.latest.until == 299.0


def test_few_inputs_are_an_error(reference):
    with pytest.raises(DataError, match=r"found 40; wait for more"):
        history.history(reference, records(40, seed=1) * 3, size=100)
