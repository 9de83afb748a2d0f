"""A search has the same outcome whatever its workers, the order in which they finish, and how often they are lost."""

import json
from pathlib import Path

import pytest

from tests.search.test_retraining import Points
from tests.support.drawn_pool import DrawnPool
from tests.support.made_up import MadeUp
from tests.support.searches import Silent, searched, section_of

MADE_UP = "tests.support.made_up:trainee"
POINTS = "tests.support.made_up:points"
pytestmark = pytest.mark.usefixtures("often_written")
# Written by the search as it was before there were workers (commit 9cfab31).
ONE_BY_ONE = json.loads(Path(__file__).with_name("one_by_one.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name", ["tpe", "grid", *(pytest.param(name, marks=pytest.mark.extended) for name in ("diverging", "heads"))]
)
def test_ahead_of_one_is_the_search_of_before(name):
    expected = ONE_BY_ONE[name]
    section = section_of(expected["search"], learning_rate=0.001 if name == "diverging" else 0.1, dropout=0.4)
    outcome = searched(section, MadeUp(), pool=DrawnPool(2, seed=0), factory=MADE_UP)
    for trial, (kind, *point, state, epochs) in zip(outcome.trials, expected["trials"], strict=True):
        names = ("learning_rate", "dropout", "weight_decay")
        assert [trial["section"][name] for name in names] == pytest.approx(point)
        assert (trial["kind"], trial["state"], len(trial["epochs"])) == (kind, state, epochs)
    assert outcome.networks[0]["trial"] == f"trial {expected['best']}"


RATES = {"learning_rate": {"low": 0.001, "high": 2.0, "log": True}}
TRAINED = {"ensemble": 3, "repeats": 2, "refit": True, "schedule": "cosine", "epochs": 4}
SOUP = {"ensemble": 3, "ensemble_by": "soup", "refit": True, "epochs": 3}
SEARCHES = {
    "pruned": ({"trials": 14, "ahead": 4}, {}, MadeUp, MADE_UP),
    "trained": ({"trials": 6, "ahead": 3}, TRAINED, Points, POINTS),
    "diverging": ({"trials": 9, "ahead": 3, "space": RATES}, {}, MadeUp, MADE_UP),
    "heads": ({"trials": 9, "head_trials": 5, "ahead": 2}, {}, MadeUp, MADE_UP),
    "soup": ({"trials": 5, "ahead": 5, "prune": False}, SOUP, Points, POINTS),
}


@pytest.mark.parametrize("name", ["pruned", "trained"])
def test_drawn_order_and_lost_workers_change_nothing(name):
    search, values, networks, factory = SEARCHES[name]
    section = section_of(search, **values)
    expected = searched(section, networks(), folder=Path("one"))
    pool = DrawnPool(3, seed=1, losses=3)
    assert searched(section, networks(), pool=pool, factory=factory) == expected
    assert len(pool.workers) == 3 + 3


@pytest.mark.extended
@pytest.mark.parametrize("ahead", [2, 8])
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("name", SEARCHES)
def test_no_order_of_completion_changes_the_outcome(name, workers, ahead):
    search, values, networks, factory = SEARCHES[name]
    section = section_of({**search, "ahead": ahead}, **values)
    expected = searched(section, networks(), folder=Path("one"))
    orders = set()
    for seed in range(5):
        pool = DrawnPool(workers, seed=seed, losses=min(seed, 2))
        assert searched(section, networks(), pool=pool, factory=factory, folder=Path(f"drawn-{seed}")) == expected
        orders.add(tuple(pool.order))
    assert len(orders) > 1


@pytest.mark.extended
def test_search_that_began_in_unlike_workers_keeps_the_tag():
    section = section_of({"trials": 6, "ahead": 2})
    with pytest.raises(KeyboardInterrupt):
        searched(section, MadeUp(), pool=DrawnPool(2, 0, mixed=True), factory=MADE_UP, display=Silent(epochs=20))
    outcome = searched(section, MadeUp(), pool=DrawnPool(2, 0), factory=MADE_UP)
    assert outcome.runs["search"]["tags"] == {"mixed_processors": "true"}
