"""Doing the same to many things, a few ahead at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T], *, threads: int = 2, ahead: int = 32) -> Iterator[R]:
    """`map` in threads, in order, with at most `ahead` results waiting.

    ThreadPoolExecutor.map would take in all items at once, and memory would grow with their number.
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from ordered_map_in(pool, function, items, ahead=ahead)


def ordered_map_in(pool: Executor, function: Callable[[T], R], items: Iterable[T], *, ahead: int) -> Iterator[R]:
    """The same in the threads of a pool, which others may use too."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
