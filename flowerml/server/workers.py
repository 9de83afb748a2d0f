"""The threads that work on jobs: in turn, a few inputs at a time."""

from collections import deque
from collections.abc import Callable
from itertools import groupby
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic

from flowerml.server.job import Job

GATHER_SECONDS = 0.002
QUANTUM_SECONDS = 0.005
JOIN_SECONDS = 5.0

_LONG = object()
"""In the queue: the turn of long jobs, of which each thread finds the next itself."""


class Workers:
    """Threads that answer jobs round robin, so that a request of many inputs does not delay one of few.

    A text takes less time than waking the event loop for it: answers that are ready within GATHER_SECONDS of each other
    are handed over together, and none is held back while a thread has nothing else to do. So texts of many requests
    are gathered, yet each goes through the network as if it had come alone.

    An explanation is 50 to 385 passes, and a picture of 88 megapixels takes a second. At most half of the threads work
    on such, which wait in a queue of their own; between two passes of an explanation its thread answers other requests
    for as long as it explained.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.explainers = max(1, threads // 2)
        self._queue: SimpleQueue[object] = SimpleQueue()
        self._long: deque[Job] = deque()
        self._lengthy = 0
        self._lock = Lock()
        self._running: list[Thread] = []

    def start(self) -> None:
        """Start the threads, unless they run."""
        if self._running:
            return
        # Daemons: no kernel of ONNX Runtime can be stopped, and a process that ends must not wait for one that hangs.
        self._running = [
            Thread(target=self._work, name=f"answers-{number}", daemon=True) for number in range(self.threads)
        ]
        for thread in self._running:
            thread.start()

    def stop(self) -> None:
        """End the threads once they have done what is in the queue; wait for them for JOIN_SECONDS at most."""
        for _ in self._running:
            self._queue.put(None)
        deadline = monotonic() + JOIN_SECONDS
        for thread in self._running:
            thread.join(max(0.0, deadline - monotonic()))

    def submit(self, job: Job) -> None:
        """Have a job worked on, by several threads if they have nothing else to do."""
        self._enqueue(job)

    def _work(self) -> None:
        done: list[Job] = []
        hand_over = 0.0
        while True:
            try:
                turn = self._queue.get_nowait() if done else self._queue.get()
            except Empty:
                done = _hand_over(done)
                continue
            if turn is None:
                _hand_over(done)
                return
            if turn is _LONG:
                done = _hand_over(done)  # it takes a second
                self._answer_long()
                continue
            assert isinstance(turn, Job)
            if done and not (turn.is_single and turn.served is done[-1].served):
                done = _hand_over(done)  # a picture, say, takes much longer than a text
            if self._answer(turn):
                done.append(turn)
                if len(done) == 1:
                    hand_over = monotonic() + GATHER_SECONDS
            if done and monotonic() > hand_over:
                done = _hand_over(done)

    def _enqueue(self, job: Job) -> None:
        if job.wait_for_turn():
            self._queue_up(job)

    def _queue_up(self, job: Job) -> None:
        if not job.is_long:
            self._queue.put(job)
            return
        with self._lock:
            self._long.append(job)
            if self._lengthy < self.explainers:
                self._lengthy += 1
                self._queue.put(_LONG)

    def _answer(self, job: Job) -> bool:
        """Work on a group of a job, and return whether that was its last."""
        if job.is_long:  # as another thread has found meanwhile
            self._queue_up(job)
            return False
        group = job.take()
        self._enqueue(job)  # before the work: a thread without work may take the next group
        is_last = job.work(group, _no_pause)
        self._enqueue(job)
        return is_last

    def _answer_long(self) -> None:
        with self._lock:
            if not self._long:
                self._lengthy -= 1
                return
            job = self._long.popleft()
        if job.work(job.take(), self._pause()):
            _hand_over([job])
        if job.wait_for_turn():
            with self._lock:
                self._long.append(job)
        self._queue.put(_LONG)

    def _pause(self) -> Callable[[], None]:
        """Return what an explanation calls between passes: it answers others, for as long as the explanation ran."""
        resumed = monotonic()

        def pause() -> None:
            nonlocal resumed
            if (now := monotonic()) - resumed < QUANTUM_SECONDS:
                return
            until = now + (now - resumed)
            while now < until and (job := self._waiting()) is not None:
                if self._answer(job):
                    _hand_over([job])
                now = monotonic()
            resumed = now

        return pause

    def _waiting(self) -> Job | None:
        """Return a job that waits for a thread, if the next turn is that of one."""
        try:
            turn = self._queue.get_nowait()
        except Empty:
            return None
        if isinstance(turn, Job):
            return turn
        self._queue.put(turn)
        return None


def _no_pause() -> None:
    """Do nothing: others wait no longer than for one group of inputs."""


def _hand_over(jobs: list[Job]) -> list[Job]:
    """Wake the requests whose jobs are done, with one call for all of an event loop; return an empty list."""
    for loop, ready in groupby(jobs, key=lambda job: job.loop):
        try:
            loop.call_soon_threadsafe(_finish, list(ready))
        except RuntimeError:  # the loop was closed: nobody waits any more
            continue
    return []


def _finish(jobs: list[Job]) -> None:
    for job in jobs:
        job.finish()
