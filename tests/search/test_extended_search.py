"""A finished search that is extended has the outcome of one that had as many trials from the start."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.search.test_workers import SEARCHES
from tests.support.drawn_pool import DrawnPool
from tests.support.recorded_runs import key_of
from tests.support.searches import Silent, searched, section_of

pytestmark = pytest.mark.usefixtures("often_written")


def sections(name: str, *counts: int):
    """Return the sections of a search with these numbers of trials."""
    search, values, *_ = SEARCHES[name]
    return [section_of({**search, "trials": count}, **values) for count in counts]


def pools(name: str, seed: int) -> dict:
    return {"pool": DrawnPool(1 + seed % 4, seed=seed, losses=2), "factory": SEARCHES[name][3]}


@pytest.mark.parametrize(
    "name", ["pruned", *(pytest.param(name, marks=pytest.mark.extended) for name in SEARCHES if name != "pruned")]
)
def test_extended_search_equals_one_from_scratch(name):
    few, many = sections(name, 8, 20)
    networks = SEARCHES[name][2]
    expected = searched(many, networks(), folder=Path("whole"))
    searched(few, networks())
    with pytest.raises(KeyboardInterrupt):
        searched(many, networks(), display=Silent(epochs=5), **pools(name, 1))
    outcome = searched(many, networks(), **pools(name, 2))
    assert (outcome.trials, outcome.networks) == (expected.trials, expected.networks)
    new = {f"trial {number}" for number in range(8, 20)}
    assert {run for run in outcome.runs if run.startswith("trial")} == new
    assert {run: outcome.runs[run] for run in new} == {run: expected.runs[run] for run in new}
    assert {run["status"] for run in outcome.runs.values()} <= {"FINISHED", "FAILED"}


def test_extended_search_names_the_one_before():
    few, many = sections("pruned", 3, 5)
    for section in (few, many):
        searched(section, SEARCHES["pruned"][2]())
    client = MlflowClient()
    (experiment,) = [each for each in client.search_experiments() if each.name == "small"]
    runs = client.search_runs([experiment.experiment_id], "tags.mlflow.runName = 'search'")
    (extended,) = [run for run in runs if "extends" in run.data.tags]
    assert {run.info.run_id for run in runs} == {extended.info.run_id, extended.data.tags["extends"]}
    best = client.get_run(extended.data.tags["best_run_id"])
    assert key_of(best) == f"trial {extended.data.tags['best_trial']}"
