"""A pool of workers in this process, whose calls run in a drawn order, and which die when it is drawn."""

import pickle
import random
from collections.abc import Collection
from concurrent.futures import Future
from typing import Any

from flowerml.engine.executors.host import resolve
from flowerml.engine.executors.pool import WorkerLost
from flowerml.engine.fit import rng_state, set_rng_state


class DrawnWorker:
    """A worker whose calls wait until the pool draws it. Its generator of random numbers is its own."""

    def __init__(self, pool: "DrawnPool", name: str, factory: str, arguments: tuple[Any, ...]) -> None:
        self.name = name
        self.lost = False
        self.ready: Future[None] = Future()
        self.speed = pool.generator.choice((1, 10, 100))
        self.calls: list[tuple[Future[Any], str, tuple[Any, ...]]] = []
        self._generators = rng_state()
        self._object = resolve(factory)(*_sent(arguments))

    def call(self, method: str, *args: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        if self.lost:
            future.set_exception(self._lost(method))
        else:
            self.calls.append((future, method, _sent(args)))
        return future

    def close(self) -> None:
        self.lost = True
        if not self.ready.done():
            self.ready.set_exception(self._lost("start"))
        for future, method, _ in self.calls:
            future.set_exception(self._lost(method))
        self.calls.clear()

    def run(self, *, dies: str) -> None:
        """Become ready, or run the first call; if the worker `dies` before or after it, the answer is lost."""
        if dies == "before":
            self.close()
            return
        if not self.ready.done():
            self.ready.set_result(None)
            return
        future, method, args = self.calls.pop(0)
        outside = rng_state()
        set_rng_state(self._generators)
        try:
            result = getattr(self._object, method)(*args)
        except Exception as error:  # of the method, as a worker sends it back
            future.set_exception(error)
        else:
            future.set_exception(self._lost(method)) if dies == "after" else future.set_result(_sent(result))
        finally:
            self._generators = rng_state()
            set_rng_state(outside)
        if dies == "after":
            self.close()

    def _lost(self, method: str) -> WorkerLost:
        return WorkerLost(f"{self.name} was killed, so it cannot run {method}")


class DrawnPool:
    """Workers of different speeds: which one is ready next, and whether it dies in it, is drawn with a seed."""

    def __init__(self, size: int, seed: int, *, losses: int = 0, share: float = 0.1, mixed: bool = False) -> None:
        self.size, self.mixed = size, mixed
        self.losses, self._share = losses, share
        self.generator = random.Random(seed)
        self.order: list[str] = []
        self.workers: list[DrawnWorker] = []

    def start(self, factory: str, *args: Any) -> DrawnWorker:
        self.workers.append(DrawnWorker(self, f"worker {len(self.workers) + 1}", factory, args))
        alive = [worker for worker in self.workers if not worker.lost]
        assert len(alive) <= self.size, "a pool is not asked for more workers than it has"
        return self.workers[-1]

    def wait(self, pending: "Collection[Future[Any]]") -> "Collection[Future[Any]]":
        """Run calls in a drawn order until one of the pending futures is done."""
        assert pending, "nobody waits for nothing"
        while not (done := [future for future in pending if future.done()]):
            busy = [worker for worker in self.workers if worker.calls or not worker.ready.done()]
            worker = self.generator.choices(busy, weights=[worker.speed for worker in busy])[0]
            dies = self.generator.choice(("before", "after")) if self._draws_death() else ""
            self.order.append(f"{worker.name}: {worker.calls[0][1] if worker.calls else 'ready'} {dies}")
            worker.run(dies=dies)
        return done

    def _draws_death(self) -> bool:
        dies = self.losses > 0 and self.generator.random() < self._share
        self.losses -= dies
        return dies


def _sent(value: Any) -> Any:
    """Return a value as it arrives in another process: a copy."""
    return pickle.loads(pickle.dumps(value))
