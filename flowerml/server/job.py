"""The job: the inputs of one request, which any number of threads work on, a few inputs at a time."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, Protocol

from flowerml.classifier.classifier import BATCH_SIZE, Classifier
from flowerml.classifier.prediction import Prediction
from flowerml.core.errors import InputError
from flowerml.data.examples import Raw
from flowerml.serving.answer import answer_json, error_json
from flowerml.serving.memory import LARGE, trim_malloc

GROUP_SIZE = 2**16
"""Characters or bytes; inputs that have more together are answered one by one, in turn with other requests."""

Decode = Callable[[Any], Raw]
"""From a value of a request to a raw input; may raise InputError."""
Observe = Callable[[Any, Prediction | InputError], None]
"""Called with each raw input (or the InputError in its place) and its answer."""

_log = logging.getLogger(__name__)


class Served(Protocol):
    """A loaded classifier with what its answers call it."""

    @property
    def classifier(self) -> Classifier:
        """Return the classifier."""

    @property
    def model(self) -> Mapping[str, str | None]:
        """Return {"name", "version"}."""


class Ended(Exception):
    """The work on a job ended early: its client has gone, or its time is up."""


@dataclass(frozen=True)
class Group:
    """Inputs of a job that one thread answers: their positions, and what they hold where that has been read."""

    positions: range
    raws: list[Any] | None


class Job:
    """The values of a request, and its answers as they come; `answers` and `outcomes` have None where there is none.

    Work is given out in groups, those in which `Classifier.predict` sends a list through the network: short texts take
    a third of the time that they take alone. The last bits of an answer depend on its group, as they do there, so texts
    of different requests are never in one. `outcomes` are "known", "unknown" or the code of an error; `seconds` is how
    long threads worked on the job.
    """

    def __init__(
        self,
        served: Served,
        values: Sequence[Any],
        *,
        top_k: int,
        explain: bool,
        decode: Decode | None,
        observe: Observe | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.loop = loop
        self.done: asyncio.Future[None] = loop.create_future()
        self.ended = False
        self.explain = explain
        self.is_long = explain
        """Whether the work takes many times as long as that of most jobs, which must not wait for it."""
        self.answers: list[dict[str, Any] | None] = [None] * len(values)
        self.outcomes: list[str | None] = [None] * len(values)
        self.seconds = 0.0
        self.served = served
        self._values = values
        self._top_k = top_k
        self._decode = decode
        self._observe = observe
        self._size = 1 if explain else served.classifier.pass_size(BATCH_SIZE)
        self._lock = Lock()
        self._taken, self._unfinished = 0, len(values)
        self._large: deque[tuple[int, Any]] = deque()
        self._waits = False

    @property
    def is_single(self) -> bool:
        """Return whether the job is one input."""
        return len(self._values) == 1

    def wait_for_turn(self) -> bool:
        """Return whether there is work left and nobody has yet been told so: then the caller queues the job once."""
        with self._lock:
            waits = not self._waits and self._has_more()
            self._waits = self._waits or waits
        return waits

    def finish(self) -> None:
        """Wake the request that waits; called in its event loop."""
        if not self.done.done():
            self.done.set_result(None)

    def end(self) -> None:
        """End the work: no further pass through the network begins."""
        self.ended = True
        self.finish()

    def take(self) -> "Group":
        """Return the next group of inputs, empty where there is none; the job's turn has come."""
        with self._lock:
            self._waits = False
            if not self._has_more():
                return Group(range(0), None)
            if self._large:
                position, raw = self._large.popleft()
                return Group(range(position, position + 1), [raw])
            positions = range(self._taken, min(self._taken + self._size, len(self._values)))
            self._taken = positions.stop
            return Group(positions, None)

    def work(self, group: "Group", pause: Callable[[], None]) -> bool:
        """Answer a group that was taken, and return whether it was the last; never raises.

        Of large inputs one is answered at most, and the others wait for further turns. `pause` is called between the
        passes of an explanation.
        """
        if not group.positions:
            return False
        began = monotonic()
        try:
            if group.raws is None:
                group = self._without_large([self._read(self._values[position]) for position in group.positions], group)
            self._answer(group, pause)
        except Ended:
            pass
        except Exception:  # a bug, or out of memory: the reason goes to the log, not to the sender of a request
            _log.exception("a group of %d inputs failed", len(group.positions))
            error = InputError("internal_error", "the server failed; its log says why")
            for position in group.positions:
                if self.answers[position] is None:
                    self._fail(position, error)
        with self._lock:
            self._unfinished -= len(group.positions)
            self.seconds += monotonic() - began
            return self._unfinished == 0

    def _has_more(self) -> bool:
        return not self.ended and (self._taken < len(self._values) or bool(self._large))

    def _without_large(self, raws: list[Any], group: "Group") -> "Group":
        """Return the group with its raw inputs; where they are large, the first alone, or none if the job gets long."""
        task = self.served.classifier.task
        kept = len(raws)
        if not self.is_long and any(isinstance(raw, task.RAW) and task.is_large(raw) for raw in raws):
            self.is_long, kept = True, 0
        elif len(raws) > 1 and sum(map(_size, raws)) > GROUP_SIZE:
            kept = 1
        with self._lock:
            self._large.extend(zip(group.positions[kept:], raws[kept:], strict=True))
        return Group(group.positions[:kept], raws[:kept])

    def _answer(self, group: "Group", pause: Callable[[], None]) -> None:
        classifier, raws = self.served.classifier, group.raws or []
        if not raws:
            return
        predictions: Iterable[Prediction | InputError]
        if len(raws) == 1:  # in this thread
            predictions = [classifier.answer_one(raws[0], top_k=self._top_k)]
        else:
            predictions = list(classifier.predict_each(raws, top_k=self._top_k))
        for position, raw, prediction in zip(group.positions, raws, predictions, strict=True):
            if self._observe is not None:
                self._observe(raw, prediction)
            if isinstance(prediction, InputError):
                self._fail(position, prediction)
            else:
                self._succeed(position, prediction, raw, pause)
        if sum(map(_size, raws)) > LARGE:
            trim_malloc()

    def _read(self, value: Any) -> Raw | InputError:
        if isinstance(value, InputError) or self._decode is None:
            return value
        try:
            return self._decode(value)
        except InputError as error:
            return error.without_traceback()

    def _succeed(self, position: int, prediction: Prediction, raw: Any, pause: Callable[[], None]) -> None:
        explanation = None
        if self.explain:
            try:
                explanation = self.served.classifier.explain(
                    raw, label=prediction.top[0].label, check=lambda: self._check(pause)
                )
            except InputError as error:
                self._fail(position, error)
                return
        self.answers[position] = answer_json(prediction, self.served.model, explanation)
        self.outcomes[position] = "known" if prediction.known else "unknown"

    def _fail(self, position: int, error: InputError) -> None:
        self.answers[position] = error_json(error, self.served.model)
        self.outcomes[position] = error.code

    def _check(self, pause: Callable[[], None]) -> None:
        pause()
        if self.ended:
            raise Ended


def _size(raw: Any) -> int:
    return len(raw) if isinstance(raw, str | bytes) else 0
