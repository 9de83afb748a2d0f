"""Admission: how much work a server accepts before it refuses more."""

import math

from flowerml.server.errors import Busy, HttpError

LONGEST_RETRY = 60  # seconds
RECENT = 0.1  # the weight of the newest request in the mean time of a request


class Stopping(HttpError):
    """A request that came after the server had answered its last."""

    def __init__(self) -> None:
        super().__init__(503, "stopping", "the server is stopping; ask again soon", {"retry-after": "1"})


class Admission:
    """A bound on the requests that are accepted: those that `lanes` work on at a time, and those that wait.

    A request of many inputs counts as one: it takes one turn at a time, as any other. Used in one thread.

    >>> admission = Admission(lanes=2, queue=1, noun="requests")
    >>> for _ in range(3):
    ...     admission.enter()
    >>> admission.enter()
    Traceback (most recent call last):
    flowerml.server.errors.Busy: 3 requests are being answered, and no more can wait; ask again in 1 s
    """

    def __init__(self, *, lanes: int, queue: int, noun: str) -> None:
        self.limit = lanes + queue
        self.load = 0
        self._lanes = lanes
        self._noun = noun
        self._seconds = 0.0

    def enter(self) -> None:
        """Accept a request; raises Busy where there are too many already."""
        if self.load >= self.limit:
            raise Busy(self.retry_after(), f"{self.load} {self._noun} are being answered, and no more can wait")
        self.load += 1

    def leave(self, seconds: float | None = None) -> None:
        """Forget an accepted request; `seconds` is how long a lane worked on it, None where that is not known."""
        self.load -= 1
        if seconds is not None:
            self._seconds += (RECENT if self._seconds else 1.0) * (seconds - self._seconds)

    def retry_after(self) -> int:
        """Return in how many whole seconds what is accepted will be done, from 1 to LONGEST_RETRY."""
        return max(1, min(LONGEST_RETRY, math.ceil(self.load * self._seconds / self._lanes)))
