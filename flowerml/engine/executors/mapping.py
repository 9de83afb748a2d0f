"""Work that is spread over a pool and comes back in order."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from flowerml.core.errors import FlowermlError
from flowerml.engine.executors.pool import Pool, Worker, WorkerLost

MAX_LOSSES = 3  # of workers by the same item


def ordered(
    pool: Pool,
    factory: str,
    factory_args: tuple[Any, ...],
    method: str,
    items: Iterable[Any],
    *,
    ahead: int,
) -> Generator[Any, None, None]:
    """Yield `method(item)` of each item, in order, called on the pool's workers, each made by `factory`.

    At most `ahead` items are taken and not yet yielded. The item of a lost worker runs again on a new one. Raises
    FlowermlError for an item that has ended three workers, and what the method raises, where its result would be.
    """
    work = _Work(pool, factory, factory_args, method)
    waiting: deque[_Item] = deque()
    try:
        for value in items:
            waiting.append(work.submit(value))
            while len(waiting) >= max(ahead, 1):
                yield work.result(waiting.popleft())
        while waiting:
            yield work.result(waiting.popleft())
    finally:
        work.close()


@dataclass(eq=False)
class _Item:
    number: int
    value: Any
    losses: int = 0
    future: "Future[Any] | None" = None


@dataclass(eq=False)
class _Slot:
    """A worker and the item that it computes."""

    worker: Worker
    item: _Item | None = None

    @property
    def awaited(self) -> "Future[Any] | None":
        """What may happen next: that its item is done, or that it is ready for one."""
        if self.item is not None:
            return self.item.future
        return None if self.worker.ready.done() else self.worker.ready


@dataclass
class _Work:
    pool: Pool
    factory: str
    arguments: tuple[Any, ...]
    method: str
    slots: list[_Slot] = field(default_factory=list)
    queue: "deque[_Item]" = field(default_factory=deque)
    count: int = 0
    failed_starts: int = 0

    def submit(self, value: Any) -> _Item:
        """Return a new item, given to a worker that is free, else put in the queue."""
        item = _Item(self.count, value)
        self.count += 1
        self.queue.append(item)
        self._settle()
        return item

    def result(self, item: _Item) -> Any:
        """Return the result of an item once it is there; meanwhile the queue goes on."""
        while True:
            self._settle()
            if item.future is not None and item.future.done():
                return item.future.result()
            wait([slot.awaited for slot in self.slots if slot.awaited], None, FIRST_COMPLETED)

    def close(self) -> None:
        for slot in self.slots:
            slot.worker.close()

    def _settle(self) -> None:
        """Take finished items off their workers, replace lost workers, and give the free ones the next items."""
        for slot in self.slots:
            item = slot.item
            if item is None or item.future is None or not item.future.done():
                continue
            slot.item = None
            error = item.future.exception()
            if isinstance(error, WorkerLost):
                self._replace(slot)
                item.losses += 1
                if item.losses < MAX_LOSSES:
                    item.future = None
                    self.queue.appendleft(item)
                else:
                    item.future = Future()
                    item.future.set_exception(_given_up(item, error))
        while self.queue and (free := self._free()) is not None:
            free.item = self.queue.popleft()
            free.item.future = free.worker.call(self.method, free.item.value)

    def _free(self) -> "_Slot | None":
        """Return a worker without an item; start another one where there is none."""
        for slot in self.slots:
            if slot.item is None and slot.worker.ready.done():
                error = slot.worker.ready.exception()
                if error is None:
                    self.failed_starts = 0
                    return slot
                self.failed_starts += 1
                if self.failed_starts >= MAX_LOSSES or not isinstance(error, WorkerLost):
                    raise error
                self._replace(slot)
        # Not one for each item: while a cluster has no place for them, others do the work.
        if len(self.slots) < self.pool.size:
            self.slots.append(_Slot(self.pool.start(self.factory, *self.arguments)))
        return None

    def _replace(self, slot: _Slot) -> None:
        slot.worker.close()
        slot.worker = self.pool.start(self.factory, *self.arguments)


def _given_up(item: _Item, error: WorkerLost) -> FlowermlError:
    return FlowermlError(f"part {item.number + 1} of the work ended {item.losses} workers; the last one: {error}")
