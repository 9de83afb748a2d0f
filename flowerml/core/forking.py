"""What does not survive a fork (threads, and locks that other threads hold), made anew in each process."""

import ctypes
import os
import weakref
from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that each process makes when it first asks for it. Thread-safe.

    >>> numbers = PerProcess(lambda: [1, 2])
    >>> numbers() is numbers()
    True
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._values: list[T] = []
        _instances.add(self)

    def __call__(self) -> T:
        """Return the value of this process."""
        if not self._values:
            with self._lock:
                if not self._values:
                    self._values.append(self._make())
        return self._values[0]

    def _forget(self) -> None:
        for value in self._values:
            # Never freed: a destructor would wait for the threads, which are the parent's.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
        self._values = []
        self._lock = Lock()


_instances: "weakref.WeakSet[PerProcess[Any]]" = weakref.WeakSet()


def _forget_all() -> None:
    for instance in list(_instances):
        instance._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
