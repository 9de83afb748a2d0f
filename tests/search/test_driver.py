"""What the driver of a search does with workers that never come, and with those that are lost again and again."""

from pathlib import Path

import pytest

from flowerml.core.errors import FlowermlError
from flowerml.search.driver import LOSSES
from tests.search.test_workers import MADE_UP
from tests.support.drawn_pool import DrawnPool, DrawnWorker
from tests.support.made_up import MadeUp
from tests.support.searches import searched, section_of

pytestmark = pytest.mark.usefixtures("often_written")


class FullCluster(DrawnPool):
    """A pool whose first worker waits for its place for good."""

    stuck = False

    def start(self, factory: str, *args: object) -> DrawnWorker:
        worker = super().start(factory, *args)
        if not self.stuck:
            self.stuck = True
            self.workers.remove(worker)  # so that it is never drawn
        return worker


class Deadly(DrawnPool):
    """A pool whose workers die in the third epoch of any training."""

    def wait(self, pending):
        for worker in self.workers:
            if sum(name.startswith(f"{worker.name}: advance") for name in self.order) == 2:
                worker.close()
        return super().wait(pending)


def test_no_trial_waits_for_a_worker_that_never_comes():
    section = section_of({"trials": 6, "ahead": 2})
    expected = searched(section, MadeUp(), folder=Path("one"))
    assert searched(section, MadeUp(), pool=FullCluster(2, seed=0), factory=MADE_UP) == expected


def test_worker_that_is_lost_each_time_ends_the_search(monkeypatch, capsys):
    monkeypatch.setattr("flowerml.search.checkpoint.SECONDS_BETWEEN", 1000.0)  # so that each starts from scratch
    with pytest.raises(FlowermlError, match=r"^trial 0: its worker was lost 3 times \(worker 3 .*re-run the command"):
        searched(section_of({"trials": 3}), MadeUp(), pool=Deadly(1, seed=0), factory=MADE_UP)
    assert capsys.readouterr().err.count("another worker goes on from its last state") == LOSSES - 1
    section = section_of({"trials": 3})
    expected = searched(section, MadeUp(), folder=Path("one"))
    assert searched(section, MadeUp(), pool=DrawnPool(1, seed=0), factory=MADE_UP) == expected
