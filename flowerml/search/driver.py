"""Runs the trainings of a search in workers: several in flight, and the same result as one after the other.

All decisions are made here: which trial is next, what is pruned, what is kept. Workers only train. A training that is
pruned, or that ends after an epoch that was set, ends in the worker by itself: see `flowerml.search.pruning.Stop`.
"""

import sys
from collections.abc import Callable, Collection, Generator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from flowerml.core.display import one_line
from flowerml.core.errors import DivergedError, FlowermlError
from flowerml.engine.executors.pool import Pool, Worker, WorkerLost
from flowerml.search.progress import Progress
from flowerml.search.trainee import Advance
from flowerml.search.trial import Trial
from flowerml.search.trials import Source, Trials
from flowerml.tracking.runs import Run

if TYPE_CHECKING:
    from torch import nn

LOSSES = 3  # of a worker that a training survives
# A worker answers after this time, or after an epoch. With an answer for each epoch of 50 ms, heads on cached features
# would wait for the driver, which records each of them in MLflow's journal.
SECONDS = 0.5

Wait = Callable[["Collection[Future[Any]]"], "Collection[Future[Any]]"]
"""Returns some of the pending futures once they are done."""

Steps = Generator["Future[Any]", Any, bytes | None]
"""A training as a coroutine: it yields what it waits for and is sent the result; it returns the weights to keep."""


def first_done(pending: "Collection[Future[Any]]") -> "Collection[Future[Any]]":
    """Wait until one of the futures is done; return those that are."""
    return wait(pending, return_when=FIRST_COMPLETED).done


@dataclass(frozen=True)
class Workers:
    """Where the trainings of a search run: a pool, and the factory of a worker's `flowerml.search.trainee.Trainee`.

    Tests draw the order of completion by a `wait` of their own.
    """

    pool: Pool
    factory: str
    arguments: tuple[Any, ...]
    wait: Wait = first_done


@dataclass
class _Seat:
    """A place for one worker, which is started when there is work for it, and again when it was lost."""

    workers: Workers
    worker: Worker | None = None

    def call(self, method: str, *args: Any) -> "Future[Any]":
        if self.worker is None:
            self.worker = self.workers.pool.start(self.workers.factory, *self.workers.arguments)
        return self.worker.call(method, *args)

    def leave(self) -> None:
        """Let go of a worker that was lost."""
        if self.worker is not None:
            self.worker.close()
        self.worker = None


class InWorkers:
    """Runs trainings in workers, as many at once as there are workers and as the source permits: see `Runner`."""

    def __init__(self, trials: Trials, workers: Workers) -> None:
        self._trials, self._wait = trials, workers.wait
        self._seats = [_Seat(workers) for _ in range(workers.pool.size)]

    def run(self, source: Source, progress: Progress) -> "nn.Module | None":
        """See `Runner`; networks are in the checkpoint, none is at hand."""
        _Run(self._trials, self._wait, self._seats, source, progress).to_the_end()
        return None


@dataclass
class _Flight:
    """A training in flight: its coroutine, and the seat it holds."""

    trial: Trial
    seat: _Seat
    steps: Steps


@dataclass
class _Run:
    """The trainings of one source, and those of them that are in flight."""

    trials: Trials
    wait: Wait
    free: list[_Seat]
    source: Source
    progress: Progress
    flying: "dict[Future[Any], _Flight]" = field(default_factory=dict)

    def to_the_end(self) -> None:
        try:
            self._begin()
            while self.flying:
                for future in self.wait(self.flying.keys()):
                    self._go_on(self.flying.pop(future), future)
                self._begin()
        finally:
            self._interrupt()

    def _begin(self) -> None:
        """Start trainings while a worker is free and the source has one whose time has come."""
        while self.free and (trial := self.source.ask()) is not None:
            if self.trials.restore(trial):
                self.source.finish(trial)
                self.progress.trial(trial)
            else:
                seat = self.free.pop()  # the one that was free last: it has started
                self._go_on(_Flight(trial, seat, self._steps(trial, seat)))

    def _go_on(self, flight: _Flight, future: "Future[Any] | None" = None) -> None:
        """Take the next step of a training; after the last one record its end."""
        error = future.exception() if future is not None else None
        try:
            if error is not None:
                waiting = flight.steps.throw(error)
            else:
                waiting = flight.steps.send(None if future is None else future.result())
            self.flying[waiting] = flight
        except StopIteration as end:
            self.free.append(flight.seat)
            self._finish(flight.trial, end.value)

    def _finish(self, trial: Trial, weights: bytes | None) -> None:
        kept = self.source.kept_with(trial)
        self.trials.checkpoint.finish(trial, weights if trial in kept else None, keep=kept)
        self.source.finish(trial)
        self.progress.trial(trial)

    def _interrupt(self) -> None:
        """End the trainings that are still in flight after an error or Ctrl-C, so that MLflow shows no run at work."""
        for flight in self.flying.values():
            with suppress(KeyboardInterrupt, OSError):
                flight.steps.throw(KeyboardInterrupt())
        self.flying.clear()

    def _steps(self, trial: Trial, seat: _Seat) -> Steps:
        """Train a trial in the worker of a seat; if that is lost, take it up in another from its last state."""
        losses, weights = 0, None
        with self.trials.recorded(trial) as run:
            while True:
                try:
                    yield from self._train(trial, seat, run)
                    if trial in self.source.kept_with(trial):
                        weights = yield seat.call("weights")
                    break
                except WorkerLost as lost:
                    losses += 1
                    seat.leave()
                    self._report(trial, lost, losses)
        return weights

    def _train(self, trial: Trial, seat: _Seat, run: Run) -> Steps:
        """Train until the end, report each epoch once, and write the state now and then."""
        checkpoint = self.trials.checkpoint
        section, label = trial.section.model_dump(), checkpoint.label(trial)
        behind = yield seat.call("start", trial.kind, section, trial.stop, label, checkpoint.state(trial))
        if behind > len(trial.epochs) and (saved := checkpoint.running(trial)):
            trial.restore(saved.epochs, state="complete", reason="")
            self.progress.epoch(trial, trial.epochs[-1])
        advance: Advance = yield seat.call("advance", SECONDS, checkpoint.is_due(trial))
        while True:
            # The worker goes on while its answer is recorded here.
            due = advance.state is None and checkpoint.is_due(trial)
            future = None if advance.ended else seat.call("advance", SECONDS, due)
            for epoch in advance.epochs:
                if epoch.number > len(trial.epochs):  # else it was seen before a worker was lost
                    trial.report(epoch)
                    run.epoch(epoch)
                    self.progress.epoch(trial, epoch)
            if advance.state is not None:
                checkpoint.write_content(trial, advance.state, advance.seconds)
            if advance.diverged is not None:
                raise DivergedError(advance.diverged)
            if future is None:
                return None
            advance = yield future

    def _report(self, trial: Trial, lost: WorkerLost, losses: int) -> None:
        """Say that a worker was lost; raises FlowermlError when that has happened too often."""
        kept = f"{len(self.trials.checkpoint.records)} finished trainings and the states of others are kept"
        if losses == LOSSES:
            raise FlowermlError(
                f"{trial.name}: its worker was lost {LOSSES} times ({one_line(lost, 200)}); {kept}: re-run the command "
                "to resume, with fewer workers if memory is short"
            ) from None
        tqdm.write(f"{trial.name}: {one_line(lost, 200)}; another worker goes on from its last state", file=sys.stderr)
