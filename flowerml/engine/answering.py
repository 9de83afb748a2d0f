"""Answering a stream of inputs of which some cannot be read."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from flowerml.core.errors import InputError

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")


def in_place(
    items: Iterable[tuple[K, T | InputError]], answer: Callable[[Iterator[T]], Iterator[R]]
) -> Iterator[tuple[K, R | InputError]]:
    """Each key with the answer to its input, in order; an input that is an InputError is its own answer.

    `answer` gives one for each of the others, in their order. No more are held than it reads ahead.
    """
    waiting: deque[tuple[K, InputError | None]] = deque()

    def readable() -> Iterator[T]:
        for key, item in items:
            waiting.append((key, item if isinstance(item, InputError) else None))
            if not isinstance(item, InputError):
                yield item

    def unreadable() -> Iterator[tuple[K, InputError]]:
        while waiting and (error := waiting[0][1]) is not None:
            yield waiting.popleft()[0], error

    for one in answer(readable()):
        yield from unreadable()
        yield waiting.popleft()[0], one
    yield from unreadable()
