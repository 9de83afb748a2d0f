"""The engine: answers requests under any load, each within bounds of work, waiting and time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from flowerml.classifier.classifier import TOP_K
from flowerml.core.errors import InputError
from flowerml.engine.parallel import thread_count
from flowerml.server.admission import Admission, Stopping
from flowerml.server.errors import OutOfTime
from flowerml.server.job import Decode, Job, Observe, Served
from flowerml.server.metrics import Metrics
from flowerml.server.workers import Workers
from flowerml.serving.answer import error_json

QUEUE = 128
EXPLAIN_QUEUE = 8
SECONDS = 60.0
OUT_OF_TIME = "out_of_time"
DRAIN_STEP = 0.02


class Engine:
    """Threads that answer, and a bound on the requests that wait for them.

    `threads` is the number of inputs that are worked on at a time, by default one on each core. `queue` requests may
    wait, and `explain_queue` of those that want explanations, which take a hundred times as long; further ones are
    refused at once with Busy. A request ends after `seconds`, and its work with it. Every method belongs to an event
    loop.

        engine = Engine(metrics=metrics)
        answers = await engine.answer(loaded, [picture], top_k=3)
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        queue: int = QUEUE,
        explain_queue: int = EXPLAIN_QUEUE,
        seconds: float = SECONDS,
        metrics: Metrics | None = None,
    ) -> None:
        self.threads = thread_count(threads)
        self.seconds = seconds
        self.metrics = metrics
        self._workers = Workers(self.threads)
        self._answers = Admission(lanes=self.threads, queue=queue, noun="requests")
        self._explanations = Admission(lanes=self._workers.explainers, queue=explain_queue, noun="explanations")
        # MLflow has threads of its own; so many keep the cores busy, and more take them from each other.
        self._slots = asyncio.Semaphore(2 * self.threads)
        self._explain_slots = asyncio.Semaphore(self._workers.explainers)
        self.draining = False
        """Whether the server is about to stop, and new requests should go elsewhere."""
        self._stopped = False

    async def answer(
        self,
        served: Served,
        values: Sequence[Any],
        *,
        top_k: Any = TOP_K,
        explain: bool = False,
        decode: Decode | None = None,
        observe: Observe | None = None,
    ) -> list[dict[str, Any]]:
        """Return one answer for each value, as `flowerml.serving.answer` says.

        Values are raw inputs, InputErrors, or what `decode` makes raw inputs of. What was not answered in time has the
        error `out_of_time`. Raises InputError `bad_top_k`, Busy, Stopping, and OutOfTime where nothing was answered in
        time. Cancelled, it ends the work.
        """
        served.classifier.check_top_k(top_k)
        if not values:
            return []
        loop = asyncio.get_running_loop()
        job = Job(served, values, top_k=top_k, explain=explain, decode=decode, observe=observe, loop=loop)
        self._enter(explain=explain)
        try:
            await self._run(job)
        finally:
            self._leave(job.seconds or None, explain=explain)
        answers = _complete(job, served)
        if self.metrics is not None:
            self.metrics.answered(served.model, [outcome or OUT_OF_TIME for outcome in job.outcomes])
        return answers

    @asynccontextmanager
    async def slot(self, *, explain: bool = False) -> AsyncIterator[None]:
        """Accept a request that another application answers, and wait until it may begin.

        Raises Busy, Stopping, and OutOfTime where it may not begin in time.
        """
        loop = asyncio.get_running_loop()
        slots = self._explain_slots if explain else self._slots
        self._enter(explain=explain)
        seconds = None
        try:
            try:
                async with asyncio.timeout(self.seconds):
                    await slots.acquire()
            except TimeoutError:
                raise self._out_of_time() from None
            began = loop.time()
            try:
                yield
            finally:
                slots.release()
                seconds = loop.time() - began
        finally:
            self._leave(seconds, explain=explain)

    @property
    def load(self) -> int:
        """Return how many requests are accepted and not answered."""
        return self._answers.load + self._explanations.load

    async def drain(self, seconds: float = SECONDS) -> bool:
        """Wait until all accepted requests are answered, for `seconds` at most; then stop. Return whether all were.

        Requests that come meanwhile are answered, and those that come later are refused with Stopping.
        """
        self.draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.load and loop.time() < deadline:
            await asyncio.sleep(DRAIN_STEP)
        self._stopped = True
        is_idle = not self.load
        await asyncio.to_thread(self._workers.stop)
        return is_idle

    async def _run(self, job: Job) -> None:
        """Return when the job is done or its time is up; then, or when it is cancelled, no further pass begins."""
        timer = job.loop.call_later(self.seconds, job.end)
        try:
            self._workers.start()
            self._workers.submit(job)
            await job.done
        finally:
            job.ended = True
            timer.cancel()
        if not any(job.answers):
            raise self._out_of_time()

    def _enter(self, *, explain: bool) -> None:
        if self._stopped:
            raise Stopping
        self._admission(explain).enter()
        self._count(1, explain)

    def _leave(self, seconds: float | None, *, explain: bool) -> None:
        self._admission(explain).leave(seconds)
        self._count(-1, explain)

    def _admission(self, explain: bool) -> Admission:
        return self._explanations if explain else self._answers

    def _count(self, change: int, explain: bool) -> None:
        if self.metrics is not None:
            self.metrics.pending("explanations" if explain else "answers", change)

    def _out_of_time(self) -> OutOfTime:
        return OutOfTime(f"the request could not be answered within {self.seconds:g} s; send fewer inputs at a time")


def _complete(job: Job, served: Served) -> list[dict[str, Any]]:
    """Return the answers of a job, with an error for each that is missing."""
    answers = [answer for answer in job.answers if answer is not None]
    if len(answers) == len(job.answers):
        return answers
    error = InputError(OUT_OF_TIME, f"only {len(answers):,} of {len(job.answers):,} inputs could be answered in time")
    return [error_json(error, served.model) if answer is None else answer for answer in job.answers]
