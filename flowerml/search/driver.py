"""Runs the trainings of a search in workers: several in flight, and the same result as one after the other.

All decisions are made here: which trial is next, what is pruned, what is kept. Workers only train. A training that is
pruned, or that ends after an epoch that was set, ends in the worker by itself: see `flowerml.search.pruning.Stop`.
"""

import sys
from collections import deque
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

Steps = Generator["Future[Any] | None", Any, bytes | None]
"""A training as a coroutine: it yields what it waits for, None for a worker, and is sent the result. It returns the
weights to keep."""


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


class InWorkers:
    """Runs trainings in workers, as many at once as there are workers and as the source permits: see `Runner`."""

    def __init__(self, trials: Trials, staff: "Staff") -> None:
        self._trials, self._staff = trials, staff

    def run(self, source: Source, progress: Progress) -> "nn.Module | None":
        """See `Runner`; networks are in the checkpoint, none is at hand."""
        _Run(self._trials, self._staff, source, progress).to_the_end()
        return None


@dataclass
class Staff:
    """The workers of a search: started as there is work for them, and free once they are ready.

    On a full cluster one may wait for its place for minutes; no training is given to it before. When one is lost
    another is started.
    """

    workers: Workers
    free: list[Worker] = field(default_factory=list)
    starting: "dict[Future[None], Worker]" = field(default_factory=dict)
    busy: int = 0
    losses: int = 0

    def take(self) -> Worker | None:
        """Return a worker that is free, the one that was so last; None if none is."""
        if not self.free:
            return None
        self.busy += 1
        return self.free.pop()

    def give_back(self, worker: Worker, *, lost: bool = False) -> None:
        """Take back a worker, which others may have then, unless it was lost."""
        self.busy -= 1
        if lost:
            worker.close()
        else:
            self.free.append(worker)

    def start(self, wanted: int) -> None:
        """Start workers until so many are on the way, if the pool has as many."""
        while len(self.starting) < wanted and self.busy + len(self.free) + len(self.starting) < self.workers.pool.size:
            worker = self.workers.pool.start(self.workers.factory, *self.workers.arguments)
            self.starting[worker.ready] = worker

    def settle(self, future: "Future[None]") -> None:
        """Take note that a worker is ready; raises what kept it from that, WorkerLost only when it happens again."""
        worker = self.starting.pop(future)
        error = future.exception()
        if error is None:
            self.losses = 0
            self.free.append(worker)
            return
        worker.close()
        self.losses += 1
        if not isinstance(error, WorkerLost) or self.losses == LOSSES:
            raise error


@dataclass
class _Flight:
    """A training that has begun: its coroutine, and its worker, if it has one."""

    trial: Trial
    worker: Worker | None = None
    steps: Steps = field(init=False)

    def call(self, method: str, *args: Any) -> "Future[Any]":
        assert self.worker is not None, "a training calls nothing before it has a worker"
        return self.worker.call(method, *args)


@dataclass
class _Run:
    """The trainings of one source, those of them that are in flight, and those that wait for a worker."""

    trials: Trials
    staff: Staff
    source: Source
    progress: Progress
    flying: "dict[Future[Any], _Flight]" = field(default_factory=dict)
    waiting: deque[_Flight] = field(default_factory=deque)

    def to_the_end(self) -> None:
        try:
            self._begin()
            while self.flying or self.waiting:
                for future in self.staff.workers.wait([*self.flying, *self.staff.starting]):
                    if future in self.staff.starting:
                        self.staff.settle(future)
                    else:
                        self._go_on(self.flying.pop(future), future)
                self._begin()
        finally:
            self._interrupt()

    def _begin(self) -> None:
        """Begin trainings whose time has come, as many as there are workers; start a worker for each that has none."""
        size = self.staff.workers.pool.size
        while len(self.flying) + len(self.waiting) < size and (trial := self.source.ask()) is not None:
            if self.trials.restore(trial):
                self.source.finish(trial)
                self.progress.trial(trial)
            else:
                flight = _Flight(trial)
                flight.steps = self._steps(flight)
                self._go_on(flight)
        while self.waiting and (worker := self.staff.take()):
            flight = self.waiting.popleft()
            flight.worker = worker
            if self.staff.workers.pool.mixed:
                self.trials.note_mixed()
            self._go_on(flight)
        self.staff.start(len(self.waiting))

    def _go_on(self, flight: _Flight, future: "Future[Any] | None" = None) -> None:
        """Take the next step of a training; after the last one record its end."""
        error = future.exception() if future is not None else None
        try:
            if error is not None:
                needed = flight.steps.throw(error)
            else:
                needed = flight.steps.send(None if future is None else future.result())
        except StopIteration as end:
            self._finish(flight, end.value)
        else:
            if needed is None:
                self.waiting.append(flight)
            else:
                self.flying[needed] = flight

    def _finish(self, flight: _Flight, weights: bytes | None) -> None:
        trial = flight.trial
        if flight.worker is not None:
            self.staff.give_back(flight.worker)
        kept = self.source.kept_with(trial)
        self.trials.checkpoint.finish(trial, weights if trial in kept else None, keep=kept)
        self.source.finish(trial)
        self.progress.trial(trial)

    def _interrupt(self) -> None:
        """End the trainings that are still in flight after an error or Ctrl-C, so that MLflow shows no run at work."""
        for flight in (*self.flying.values(), *self.waiting):
            with suppress(KeyboardInterrupt, OSError):
                flight.steps.throw(KeyboardInterrupt())
        self.flying.clear()
        self.waiting.clear()

    def _steps(self, flight: _Flight) -> Steps:
        """Train a trial in a worker; if that is lost, take it up in another from its last state."""
        trial, losses, weights = flight.trial, 0, None
        yield None
        with self.trials.recorded(trial) as run:
            while True:
                try:
                    yield from self._train(flight, run)
                    if trial in self.source.kept_with(trial):
                        weights = yield flight.call("weights")
                    break
                except WorkerLost as lost:
                    losses += 1
                    self._lose(flight, lost, losses)
                yield None
        return weights

    def _train(self, flight: _Flight, run: Run) -> "Generator[Future[Any], Any, None]":
        """Train until the end, report each epoch once, and write the state now and then."""
        trial, checkpoint = flight.trial, self.trials.checkpoint
        section, label = trial.section.model_dump(), checkpoint.label(trial)
        behind = yield flight.call("start", trial.kind, section, trial.stop, label, checkpoint.state(trial))
        if behind > len(trial.epochs) and (saved := checkpoint.running(trial)):
            trial.restore(saved.epochs, state="complete", reason="")
            self.progress.epoch(trial, trial.epochs[-1])
        advance: Advance = yield flight.call("advance", SECONDS, checkpoint.is_due(trial))
        while True:
            # The worker goes on while its answer is recorded here.
            due = advance.state is None and checkpoint.is_due(trial)
            future = None if advance.ended else flight.call("advance", SECONDS, due)
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
                return
            advance = yield future

    def _lose(self, flight: _Flight, lost: WorkerLost, losses: int) -> None:
        """Let go of a worker that was lost, and say so; raises FlowermlError when that has happened too often."""
        assert flight.worker is not None, "a training that waits for a worker loses none"
        self.staff.give_back(flight.worker, lost=True)
        flight.worker, name = None, flight.trial.name
        if losses == LOSSES:
            finished = len(self.trials.checkpoint.records)
            raise FlowermlError(
                f"{name}: its worker was lost {LOSSES} times ({one_line(lost, 200)}); {finished} finished trials and "
                "the states of others are kept: re-run the command to resume, with fewer workers if memory is short"
            ) from None
        tqdm.write(f"{name}: {one_line(lost, 200)}; another worker goes on from its last state", file=sys.stderr)
