"""Versions that are submitted at the same time: the better one ends with the alias, in every order of their steps."""

import multiprocessing
import os
import random
from itertools import combinations, count

import pytest
from mlflow import MlflowClient

from flowerml.registry import contest, history
from flowerml.registry.contest import Contest
from tests.support.contestants import ALIAS, LIMITS, Registry, process

STEPS = 4  # of a submission: read, move, record, recheck; more where it has to correct the alias
FIRST = list(combinations(range(2 * STEPS), STEPS))  # when the first of two takes its steps
EXAMPLES = min(int(os.environ.get("FLOWERML_EXAMPLES", "0")), 300)  # half a second each
ORDERS = FIRST if EXAMPLES else FIRST[::7]
NAMES = (f"model {number}" for number in count())
CHAMPION, WORSE, MIDDLE, BETTER = 20, 14, 10, 5  # mistakes


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contest")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return Registry.create(client, folder, (CHAMPION, WORSE, MIDDLE, BETTER))


@pytest.fixture(autouse=True)
def uri(registry, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.client.tracking_uri)


@pytest.fixture(scope="module")
def two_processes(registry):
    """Yield the pipes of two processes that submit versions."""
    spawn = multiprocessing.get_context("spawn")
    pipes, started = [], []
    for _ in range(2):
        here, there = spawn.Pipe()
        started.append(spawn.Process(target=process, args=(registry.client.tracking_uri, there), daemon=True))
        started[-1].start()
        pipes.append(here)
    yield pipes
    for pipe, child in zip(pipes, started, strict=True):
        pipe.send(None)
        child.join(10)


def advance(pipe):
    """Let a process take its next step; return what follows it, or the end."""
    pipe.send("next")
    return pipe.recv()


def submit_in_order(pipes, name, first):
    """Have version 2 (at the times `first`) and version 3 submitted; return the ends of both."""
    ends = {}
    for pipe, version in zip(pipes, ("2", "3"), strict=True):
        pipe.send((name, version))
        assert pipe.recv() == "read"
    order = [0 if time in first else 1 for time in range(2 * STEPS)] + [0, 1] * 100
    for number in order:
        if number not in ends and (reply := advance(pipes[number]))[0] == "end":
            ends[number] = reply
        if len(ends) == 2:
            return ends[0], ends[1]
    raise AssertionError("the two never agreed")


@pytest.mark.parametrize("mistakes", [(CHAMPION, BETTER, WORSE), (CHAMPION, WORSE, BETTER)], ids=["2", "3"])
def test_better_of_two_processes_wins(registry, two_processes, mistakes):
    better = str(1 + mistakes.index(BETTER))
    for first in ORDERS:
        name = registry.model(next(NAMES), mistakes)
        ends = submit_in_order(two_processes, name, first)
        moves = history.moves(registry.client, name)
        assert registry.holder(name) == better, (first, ends, moves)
        assert ends[int(better) - 2][1], (first, ends)
        promoted = {str(number + 2) for number, end in enumerate(ends) if end[1]}
        assert promoted <= {move.version for move in moves}
        assert history.earlier_versions(moves, ALIAS, better)[-1] == "1"
        tags = registry.client.get_model_version(name, better).tags
        assert tags["verdict"] == "promoted"


def test_simultaneous_tie_ends(registry, two_processes):
    for first in ORDERS[::3]:
        name = registry.model(next(NAMES), (CHAMPION, BETTER, BETTER))
        ends = submit_in_order(two_processes, name, first)
        assert ends[int(registry.holder(name)) - 2][1], (first, ends)


def test_loser_is_told_to_whom(registry, two_processes):
    name = registry.model(next(NAMES), (CHAMPION, BETTER, WORSE))
    _, (_, promoted, reason) = submit_in_order(two_processes, name, (0, 2, 4, 6))
    assert not promoted
    assert reason.startswith(
        "version 2 was given champion at the same time: worse: test accuracy 0.8600, version 2 has 0.9500; "
    )
    assert registry.client.get_model_version(name, "3").tags["verdict"] == "not promoted"


def shuffled(steps, generator):
    """Take the steps of all in a random order."""
    waiting = list(steps)
    while waiting:
        chosen = generator.choice(waiting)
        try:
            next(chosen)
        except StopIteration:
            waiting.remove(chosen)


def submission(arena, version, how=history.GATE, takes="any"):
    return contest.submission(arena, arena.candidate(version), takes=takes, how=how)


def test_best_of_three_wins(registry):
    generator = random.Random(0 if not EXAMPLES else None)
    for _ in range(EXAMPLES or 5):
        mistakes = [WORSE, MIDDLE, BETTER]
        generator.shuffle(mistakes)
        name = registry.model(next(NAMES), (CHAMPION, *mistakes))
        arena = Contest(registry.client, name, ALIAS, LIMITS)
        shuffled([submission(arena, version) for version in ("2", "3", "4")], generator)
        moves = history.moves(registry.client, name)
        assert registry.holder(name) == str(2 + mistakes.index(BETTER)), moves


def test_person_wins_over_what_had_not_seen_it(registry):
    generator = random.Random(0 if not EXAMPLES else None)
    for _ in range(EXAMPLES or 5):
        name = registry.model(next(NAMES), (CHAMPION, BETTER, MIDDLE, WORSE))
        arena = Contest(registry.client, name, ALIAS, LIMITS)
        by_hand = contest.by_hand(arena, "4", how=history.FORCED, why="")
        shuffled([submission(arena, "2"), submission(arena, "3"), by_hand], generator)
        moves = history.moves(registry.client, name)
        (forced,) = (move for move in moves if move.how == history.FORCED)
        after = {"4"}  # judged against the person's choice, or against one that was
        for _ in range(2):
            after |= {move.version for move in moves if move.how == history.GATE and move.previous in after}
        after.discard(forced.previous)
        assert registry.holder(name) == min(after, key="234".index), moves  # the better ones have lower numbers


def test_alias_moved_by_a_killed_one_is_kept(registry):
    name = registry.model(next(NAMES), (CHAMPION, BETTER, WORSE))
    arena = Contest(registry.client, name, ALIAS, LIMITS)
    worse, better = submission(arena, "3"), submission(arena, "2")
    assert [next(better), next(better)] == ["read", "move"]
    assert [next(worse), next(worse), next(worse)] == ["read", "move", "record"]
    assert next(better) == "record"
    better.close()  # killed after its move
    assert not contest.finish(worse).promoted and registry.holder(name) == "2"
    moves = history.moves(registry.client, name)
    assert moves[-1].version == "2"  # recorded by the other one
    assert history.earlier_versions(moves, ALIAS, "2") == ["1"]


def test_experiment_yields_to_real_data(registry):
    name = registry.model(next(NAMES), (CHAMPION, BETTER, MIDDLE))
    arena = Contest(registry.client, name, ALIAS, LIMITS)
    registry.client.set_model_version_tag(name, "1", "data_source", "sample")
    trial, repro = submission(arena, "2", history.EXPERIMENT, "sample"), submission(arena, "3")
    for steps in (trial, repro):
        assert [next(steps), next(steps)] == ["read", "move"]
    assert contest.finish(repro).promoted
    contest.finish(trial)
    assert registry.holder(name) == "3"  # not the better one
