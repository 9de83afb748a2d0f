"""Searches in real processes, in whatever order these finish, have the outcome of one in this process."""

import importlib.util
from pathlib import Path

import pytest

from flowerml.engine.executors import Place, machine_facts, open_pool
from flowerml.engine.executors.facts import MixedMachines
from tests.search.test_retraining import Points
from tests.search.test_workers import TRAINED
from tests.support.searches import searched, section_of

pytestmark = [pytest.mark.engines, pytest.mark.usefixtures("often_written")]
DAWDLING = "tests.support.made_up:dawdling"


def outcomes(place: Place, *, times: int):
    """Return the outcome in this process, and those of several searches in workers."""
    section = section_of({"trials": 8, "ahead": 4}, **TRAINED)
    expected = searched(section, Points(), folder=Path("one"))
    found = []
    for number in range(times):
        with open_pool(place, threads=1, facts=machine_facts()) as pool:
            found.append(searched(section, Points(), pool=pool, factory=DAWDLING, folder=Path(str(number))))
    return expected, found


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_local_processes_have_one_outcome(workers):
    expected, found = outcomes(Place(workers=workers), times=2)
    assert [outcome == expected for outcome in found] == [True] * 2


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="flowerml[ray] is not installed")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_ray_actors_have_one_outcome(workers):
    expected, found = outcomes(Place("ray", workers=workers), times=1)
    assert found == [expected]


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="flowerml[dask] is not installed")
def test_dask_workers_have_one_outcome():
    expected, found = outcomes(Place("dask", workers=2), times=1)
    assert found == [expected]


def test_search_in_unlike_workers_is_refused_in_a_line():
    facts = {**machine_facts(), "processor": "another one"}
    with open_pool(Place(workers=2), threads=1, facts=facts) as pool, pytest.raises(MixedMachines) as error:
        searched(section_of({"trials": 2}), Points(), pool=pool, factory=DAWDLING)
    assert "another one" in str(error.value) and "\n" not in str(error.value)


def test_search_in_unlike_workers_may_be_allowed(monkeypatch, capsys):
    monkeypatch.setenv("FLOWERML_MIXED", "allow")
    facts = {**machine_facts(), "processor": "another one"}
    with open_pool(Place(workers=2), threads=1, facts=facts) as pool:
        outcome = searched(section_of({"trials": 2}), Points(), pool=pool, factory=DAWDLING)
    assert outcome.runs["search"]["tags"]["mixed_processors"] == "true"
    assert capsys.readouterr().err.count("warning: ") == 1
