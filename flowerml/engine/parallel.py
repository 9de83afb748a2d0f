"""Maps over streams: in threads with bounded memory, past inputs that cannot be read, in batches."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from flowerml.core.display import printable
from flowerml.core.errors import FlowermlError, InputError

THREADS_VARIABLE = "FLOWERML_THREADS"
MOST_THREADS = 1024

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")


def thread_count(threads: int | None = None) -> int:
    """Return a checked number of threads; with None that of FLOWERML_THREADS, else the cores this process may use.

    Raises FlowermlError for anything but a whole number from 1 to 1024.

    >>> thread_count(2)
    2
    """
    text = os.environ.get(THREADS_VARIABLE, "").strip()
    if threads is None and not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name = "threads" if threads is not None else THREADS_VARIABLE
    value = threads if threads is not None else int(text) if text.isdecimal() and len(text) < 10 else text
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_THREADS:
        raise FlowermlError(
            f"{name}: expected a whole number from 1 to {MOST_THREADS:,}, found {printable(str(value), 60)!r}; "
            "leave it out to use all cores"
        )
    return value


def ordered_map(function: Callable[[T], R], items: Iterable[T], *, threads: int = 2, ahead: int = 32) -> Iterator[R]:
    """Yield `function` of each item, in order, computed in threads with at most `ahead` results pending.

    >>> list(ordered_map(abs, [-2, 1, -3]))
    [2, 1, 3]
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from ordered_map_in(pool, function, items, ahead=ahead)


def ordered_map_in(
    pool: Executor, function: Callable[[T], R], items: Iterable[T], *, ahead: int
) -> Generator[R, None, None]:
    """Do the same in an existing pool, which may be shared."""
    # Not Executor.map: it submits every item at once, so memory grows with their number (`buffersize`, which bounds
    # it, needs Python 3.14).
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def map_readable(
    items: Iterable[tuple[K, T | InputError]], function: Callable[[Iterator[T]], Iterator[R]]
) -> Iterator[tuple[K, R | InputError]]:
    """Yield (key, result) for each (key, item), in order; an item that is an InputError is its own result.

    `function` maps an iterator of the readable items to one result each, in order. It may read ahead, in batches or
    threads; no more items are held than that.

    >>> rows = [(1, "a"), (2, InputError("empty", "the text is empty")), (3, "b")]
    >>> [(key, str(result)) for key, result in map_readable(rows, lambda texts: map(str.upper, texts))]
    [(1, 'A'), (2, 'the text is empty'), (3, 'B')]
    """
    pending: deque[tuple[K, InputError | None]] = deque()

    def readable() -> Iterator[T]:
        for key, item in items:
            pending.append((key, item if isinstance(item, InputError) else None))
            if not isinstance(item, InputError):
                yield item

    def unreadable() -> Iterator[tuple[K, InputError]]:
        while pending and (error := pending[0][1]) is not None:
            yield pending.popleft()[0], error

    for result in function(readable()):
        yield from unreadable()
        yield pending.popleft()[0], result
    yield from unreadable()


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one shorter (itertools.batched needs Python 3.12).

    >>> list(batches("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
