"""Which trials have been told when the next one is asked."""

from random import Random

import pytest

from flowerml.engine.fit import Epoch
from flowerml.search.study import Search
from flowerml.tasks.pipelines import load_pipeline

RANGE = {"dropout": {"low": 0.1, "high": 0.5}}


@pytest.fixture
def section(changed):
    """Return a function from the values of `search` to a section."""
    base = load_pipeline("flowers", changed("flowers.train.search.space", {})).train

    def make(**search):
        return base.with_values(
            {"epochs": 9, "dropout": 0.1, "search": {"trials": 8, "prune": True, "space": RANGE, **search}}
        )

    return make


def report(trial):
    """Report epochs whose accuracies fall with the trial's dropout, until it ends."""
    for number in range(1, 10):
        if trial.report(Epoch(number, 1.0, 0.5, 1.0, number / 20 - trial.section.dropout / 10, 0.1, 0.1)):
            return


def in_flight(search):
    """Return the trials that may begin before any of them ends."""
    trials = []
    while (trial := search.ask()) is not None:
        trials.append(trial)
    return trials


def outcome(section, *, workers, seed):
    """Run a search with some workers whose trials end in a drawn order; return its trials."""
    search, rng, running = Search(section), Random(seed), []
    while True:
        while len(running) < workers and (trial := search.ask()) is not None:
            running.append(trial)
        if not running:
            return [(trial.section.dropout, trial.state, len(trial.epochs)) for trial in search.trials]
        trial = running.pop(rng.randrange(len(running)))
        report(trial)
        search.finish(trial)


@pytest.mark.parametrize("ahead", [1, 3])
def test_so_many_trials_begin_at_once(section, ahead):
    search = Search(section(ahead=ahead))
    assert len(in_flight(search)) == search.at_once == ahead


def test_a_trial_waits_for_the_slowest(section):
    search = Search(section(ahead=3))
    first, second, third = in_flight(search)
    for trial in (third, second):
        report(trial)
        search.finish(trial)
    assert search.ask() is None
    report(first)
    search.finish(first)
    assert [trial.number for trial in in_flight(search)] == [3, 4, 5]


def test_a_grid_without_pruning_begins_at_once(section):
    search = Search(section(prune=False, space={"dropout": [0.1, 0.2], "patience": [None, 3]}))
    assert len(in_flight(search)) == search.at_once == 4


def test_the_rest_waits_for_all_heads(section):
    search = Search(section(head_trials=3, ahead=4, prune=False))
    heads = in_flight(search)
    assert [trial.kind for trial in heads] == ["head"] * 3
    for trial in heads[1:]:
        report(trial)
        search.finish(trial)
    assert search.ask() is None
    report(heads[0])
    search.finish(heads[0])
    assert {trial.kind for trial in in_flight(search)} == {"trial"}


def test_the_outcome_depends_on_no_order(section):
    values = section(ahead=3, trials=12)
    outcomes = [outcome(values, workers=workers, seed=seed) for workers in (1, 2, 4) for seed in range(2)]
    assert all(each == outcomes[0] for each in outcomes) and "pruned" in {state for _, state, _ in outcomes[0]}
    assert outcomes[0] != outcome(section(trials=12), workers=1, seed=0)


def test_a_longer_search_begins_as_the_shorter(section):
    short, long = (outcome(section(ahead=2, trials=count), workers=2, seed=0) for count in (6, 12))
    assert long[:6] == short


def test_leaders_are_those_of_finished_trials(section):
    search = Search(section(ahead=3, prune=False))
    trials = in_flight(search)
    for trial in trials:
        report(trial)
    search.finish(trials[2])
    assert search.leaders == [trials[2]] == [search.best]
