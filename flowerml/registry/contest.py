"""Giving an alias to one of several versions that may be submitted at once, without a compare-and-swap.

MLflow sets an alias to whatever comes last. So every mover takes four steps: read (and judge), move, record, recheck.
The recheck reads all moves that were recorded since the read. Whoever rechecks last sees the records of all the others,
as each of them recorded its move before its own recheck; and all movers compute the same winner from the same records.
So the alias ends at that winner, whatever the order of their steps.

The winner is the version that would have the alias if the versions had been submitted one after another, in the order
of their numbers, experiments last. A version that had been judged against another one comes after it. What a person
decides (by force, or back) stands against submissions that had not seen it.

A step is all that a generator does between two of its yields, so that a test can take the steps of two processes in any
order.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError
from flowerml.registry import history
from flowerml.registry.candidates import candidate_of, scored
from flowerml.registry.client import current_version, retry_insert, set_version_tags, version_exists
from flowerml.registry.gate import SAMPLE, Candidate, Decision, evaluate_gate
from flowerml.registry.history import Move

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from flowerml.config.params import Gate
    from flowerml.data.examples import Examples

ATTEMPTS = 5  # to judge a version while others move the alias
CORRECTIONS = 20  # of one mover; each follows a move by somebody else
MAX_REASON = 2000  # characters

Takes = Literal["any", "sample", "none"]
"""Which champion a version may replace: any, only one trained on the embedded sample, or none."""

T = TypeVar("T")
Steps = Generator[Literal["read", "move", "record", "recheck"], None, T]
"""A computation that yields the name of each step before it takes it."""


@dataclass(frozen=True)
class Contest:
    """An alias of a registered model, and how the versions submitted for it are judged.

    `test` are the examples of the version that is submitted; None where they are not at hand.
    """

    client: "MlflowClient"
    name: str
    alias: str
    limits: "Gate"
    test: "Examples | None" = None

    def holder(self) -> "ModelVersion | None":
        """Return the version that has the alias; None where none has."""
        return current_version(self.client, self.name, self.alias)

    def give(self, version: str) -> None:
        """Give the alias to a version."""
        retry_insert(lambda: self.client.set_registered_model_alias(self.name, self.alias, version))

    def record(self, version: str, *, previous: str | None, how: str, why: str) -> Move:
        """Record that the alias was given to a version."""
        return history.record(self.client, self.name, Move(self.alias, version, previous=previous, how=how, why=why))

    def moves(self) -> list[Move]:
        """Return the moves of this alias, newest last."""
        return [move for move in history.moves(self.client, self.name) if move.alias == self.alias]

    def candidate(self, version: str) -> Candidate:
        """Return what is recorded of a version."""
        return candidate_of(self.client, self.client.get_model_version(self.name, version))


def finish(steps: Steps[T]) -> T:
    """Take all steps, and return the result.

    >>> def steps():
    ...     yield "read"
    ...     return 3
    >>> finish(steps())
    3
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def submission(contest: Contest, new: Candidate, *, takes: Takes, how: str) -> Steps[Decision]:
    """Judge a version against the champion and, if it passes, give it the alias; return the decision."""
    yield "read"
    for _ in range(ATTEMPTS):
        known = _keys(contest.moves())  # before the alias, so that the effect of these moves is seen
        record = contest.holder()
        champion = None if record is None else candidate_of(contest.client, record)
        decision = _permitted(_judged(contest, new, champion), contest, new, champion, takes)
        if _number(record) == _number(contest.holder()):
            break
    _tag(contest, new.version, decision)
    if not decision.promoted:
        return decision
    yield "move"
    contest.give(new.version)
    yield "record"
    own = contest.record(new.version, previous=_number(record), how=how, why=decision.reason)
    winner = yield from _settle(contest, own, known)
    if winner != new.version:
        decision = _overtaken(contest, new, winner)
        _tag(contest, new.version, decision)
    return decision


def by_hand(contest: Contest, version: str, *, how: str, why: str) -> Steps[str | None]:
    """Give a version the alias without asking the gate; return the version that has it in the end."""
    yield "read"
    known = _keys(contest.moves())
    previous = _number(contest.holder())
    yield "move"
    contest.give(version)
    yield "record"
    own = contest.record(version, previous=previous, how=how, why=why)
    return (yield from _settle(contest, own, known))


def _settle(contest: Contest, own: Move, known: frozenset[str]) -> Steps[str | None]:
    """Give the alias to the winner of all moves since the read, until it has it; return the winner."""
    for _ in range(CORRECTIONS):
        yield "recheck"
        holder = _number(contest.holder())
        moves = [move for move in contest.moves() if move.key not in known]
        winner = _winner(contest, moves, own, holder)
        if winner == holder and any(move.version == holder for move in moves):
            return winner
        if winner != holder:
            yield "move"
            contest.give(winner)
        yield "record"  # also for a mover that may have been killed before its own record
        why = f"version {own.version} was given {contest.alias} at the same time, and {holder or 'it was removed'}"
        contest.record(winner, previous=own.previous, how=history.SETTLED, why=why)
    return _number(contest.holder())


def _winner(contest: Contest, moves: Iterable[Move], own: Move, holder: str | None) -> str:
    """Return the version that should have the alias, from the moves since the read and the alias as it is."""
    latest: dict[str, Move] = {own.version: own}
    decisive: Move | None = None
    for move in moves:
        if move.how != history.SETTLED or move.version not in latest:
            latest[move.version] = move
        if move.how in history.BY_HAND:
            decisive = move
    if holder is not None and holder not in latest:  # its mover has not recorded it yet, or was killed
        latest[holder] = Move(contest.alias, holder, previous=None, how=history.GATE, why="")
    latest = {
        version: move
        for version, move in latest.items()
        if version in (own.version, holder) or version_exists(contest.client, contest.name, version)
    }
    if decisive is not None:
        latest = _since(decisive, latest)
    incumbent = None if decisive is None else decisive.version

    def turn(move: Move) -> tuple[int, bool, int]:
        return _depth(move, latest), move.how == history.EXPERIMENT, int(move.version)

    for move in sorted(latest.values(), key=turn):
        if incumbent is None or move.previous == incumbent or _beats(contest, move, incumbent):
            incumbent = move.version
    return incumbent or own.version


def _since(decisive: Move, latest: dict[str, Move]) -> dict[str, Move]:
    """Return the moves that a person's decision does not end: those of versions that were judged against its version.

    The person has seen the version that had the alias (`previous`), and decided against it.
    """
    after: dict[str, Move] = {}
    for move in sorted(latest.values(), key=lambda move: _depth(move, latest)):
        if move.version not in (decisive.version, decisive.previous) and (
            move.previous == decisive.version or move.previous in after
        ):
            after[move.version] = move
    return after


def _depth(move: Move, latest: dict[str, Move]) -> int:
    """Return how many of these moves led to this one, each version judged against the one before."""
    depth = 0
    while (earlier := latest.get(move.previous or "")) is not None and earlier.key < move.key:
        depth, move = depth + 1, earlier
    return depth


def _beats(contest: Contest, move: Move, incumbent: str) -> bool:
    """Return whether a version passes the gate against another one, by what is recorded of both.

    No classifier is scored here: each mover has its own test examples only, and all must come to the same result.
    """
    new, champion = contest.candidate(move.version), contest.candidate(incumbent)
    takes: Takes = "sample" if move.how == history.EXPERIMENT else "any"
    return _may_replace(champion, takes) and evaluate_gate(new, champion, contest.limits).promoted


def _judged(contest: Contest, new: Candidate, champion: Candidate | None) -> Decision:
    """Return the gate's decision; the champion is scored on the new test set where it was measured on another."""
    if champion is None or not _needs_scoring(new, champion):
        return _with_advice(evaluate_gate(new, champion, contest.limits), contest, new)
    obstacle = f"different test set from version {champion.version}, "
    if contest.test is None:
        why = (
            f"and the test examples of version {new.version} are not in this folder; "
            "repeat it in its project after `dvc repro` on its data"
        )
        return _with_advice(Decision(False, obstacle + why, (), comparable=False), contest, new)
    try:
        champion = replace(scored(contest.name, champion.version, contest.test), source=champion.source)
    except (FlowermlError, OSError) as error:
        why = f"which could not be scored on the new one: {one_line(error, 300)}"
        return _with_advice(Decision(False, obstacle + why, (), comparable=False), contest, new)
    decision = evaluate_gate(new, champion, contest.limits)
    if decision.comparable:
        decision = replace(decision, reason=f"{obstacle}which was scored on the new one: {decision.reason}")
    return _with_advice(decision, contest, new)


def _needs_scoring(new: Candidate, champion: Candidate) -> bool:
    """Return whether only the test set stands between the two."""
    if champion.yields_to(new) or (new.source == SAMPLE and champion.source != SAMPLE):
        return False
    return not new.same_test(champion) and (not champion.classes or new.same_classes(champion))


def _with_advice(decision: Decision, contest: Contest, new: Candidate) -> Decision:
    """Return a decision that says how to promote what could not be compared."""
    if decision.comparable:
        return decision
    command = f"flowerml promote {contest.name} {new.version} --force"
    return replace(decision, reason=f"{decision.reason}; `{command}` promotes it anyway")


def _permitted(
    decision: Decision, contest: Contest, new: Candidate, champion: Candidate | None, takes: Takes
) -> Decision:
    """Return the decision; a refusal where the version passed and may not replace this champion."""
    if not decision.promoted or _may_replace(champion, takes):
        return decision
    why = "export.promote is never" if takes == "none" else "an experiment, and export.promote is repro"
    advice = f"`flowerml promote {contest.name} {new.version}` promotes it"
    return replace(decision, promoted=False, reason=f"{decision.reason}; but this is {why}: {advice}")


def _may_replace(champion: Candidate | None, takes: Takes) -> bool:
    if takes == "sample":
        return champion is None or champion.source == SAMPLE
    return takes == "any"


def _overtaken(contest: Contest, new: Candidate, winner: str | None) -> Decision:
    """Return why a version that had passed does not have the alias in the end."""
    reason = f"version {winner} was given {contest.alias} at the same time"
    if winner is None or not version_exists(contest.client, contest.name, winner):
        return Decision(False, reason, ())
    decision = evaluate_gate(new, contest.candidate(winner), contest.limits)
    if not decision.promoted:
        reason = f"{reason}: {decision.reason}"
    return _with_advice(replace(decision, promoted=False, reason=reason), contest, new)


def _tag(contest: Contest, version: str, decision: Decision) -> None:
    """Record a decision in the version's tags."""
    outcomes = {True: "passed", False: "failed", None: "not judged"}
    tags = {"verdict": "promoted" if decision.promoted else "not promoted", "reason": decision.reason[:MAX_REASON]}
    tags |= {f"gate.{rule.name}": outcomes[rule.passed] for rule in decision.rules}
    set_version_tags(contest.client, contest.name, version, tags)


def _keys(moves: Iterable[Move]) -> frozenset[str]:
    return frozenset(move.key for move in moves)


def _number(record: "ModelVersion | None") -> str | None:
    return None if record is None else str(record.version)
