"""A search whose workers and driver are killed has the trials, the weights and the runs of one left alone."""

import sys

import pytest

from tests.support.killed_search import compared


@pytest.mark.engines
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_kills_of_workers_and_drivers_change_nothing(tmp_path):
    killed = compared(tmp_path, kills=2, drivers=1, count=2, every=20, seed=1, trials=4, epochs=40)
    assert (killed.workers, killed.drivers, killed.faults) == (2, 1, [])
