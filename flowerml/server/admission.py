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
    """A bound on the work that is accepted: what runs and what waits, counted in turns of `lanes` that work at a time.

    A request of many inputs counts as the few turns that it takes at a time, and is accepted by an idle server
    whatever it weighs. Used in one thread.

    >>> admission = Admission(lanes=2, queue=1, noun="requests")
    >>> admission.enter(2); admission.enter(1); admission.load
    3
    >>> admission.enter(1)
    Traceback (most recent call last):
    flowerml.server.errors.Busy: 3 requests are being answered, and no more can wait; ask again in 1 s
    """

    def __init__(self, *, lanes: int, queue: int, noun: str) -> None:
        self.limit = lanes + queue
        self.load = 0
        self._lanes = lanes
        self._noun = noun
        self._seconds = 0.0

    def enter(self, weight: int) -> None:
        """Accept work of a weight; raises Busy where there is too much already."""
        if self.load and self.load + weight > self.limit:
            raise Busy(self.retry_after(), f"{self.load} {self._noun} are being answered, and no more can wait")
        self.load += weight

    def leave(self, weight: int, seconds: float | None = None) -> None:
        """Forget accepted work; `seconds` is how long one lane worked on it, if it did so to the end."""
        self.load -= weight
        if seconds is not None:
            self._seconds += RECENT * (seconds / weight - self._seconds)

    def retry_after(self) -> int:
        """Return in how many whole seconds what is accepted will be done, from 1 to LONGEST_RETRY."""
        return max(1, min(LONGEST_RETRY, math.ceil(self.load * self._seconds / self._lanes)))
