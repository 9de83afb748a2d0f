"""The job: the inputs of one request, which any number of threads work on, a few inputs at a time."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
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
"""Characters or bytes; inputs that have more together are answered one by one, and others in between."""

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
        self.answers: list[dict[str, Any] | None] = [None] * len(values)
        self.outcomes: list[str | None] = [None] * len(values)
        self.seconds = 0.0
        self._served = served
        self._values = values
        self._top_k = top_k
        self._decode = decode
        self._observe = observe
        self._size = 1 if explain else served.classifier.pass_size(BATCH_SIZE)
        self.groups = -(-len(values) // self._size)
        self._lock = Lock()
        self._taken = self._finished = 0

    @property
    def has_more(self) -> bool:
        """Return whether there is a group that no thread has taken."""
        return not self.ended and self._taken < self.groups

    def finish(self) -> None:
        """Wake the request that waits; called in its event loop."""
        if not self.done.done():
            self.done.set_result(None)

    def end(self) -> None:
        """End the work: no further pass through the network begins."""
        self.ended = True
        self.finish()

    def work(self, pause: Callable[[], None]) -> bool:
        """Answer the next group, if there is one, and return whether it was the last; never raises.

        `pause` is called between the passes of an explanation, and between large inputs.
        """
        with self._lock:
            number = self._taken
            if self.ended or number >= self.groups:
                return False
            self._taken += 1
        start, began = number * self._size, monotonic()
        positions = range(start, min(start + self._size, len(self._values)))
        try:
            self._answer(positions, pause)
        except Ended:
            pass
        except Exception:  # a bug, or out of memory: the reason goes to the log, not to the sender of a request
            _log.exception("a group of %d inputs failed", len(positions))
            error = InputError("internal_error", "the server failed; its log says why")
            for position in positions:
                if self.answers[position] is None:
                    self._fail(position, error)
        with self._lock:
            self._finished += 1
            self.seconds += monotonic() - began
            return self._finished == self.groups

    def _answer(self, positions: range, pause: Callable[[], None]) -> None:
        classifier = self._served.classifier
        raws = [self._read(self._values[position]) for position in positions]
        size = sum(len(raw) for raw in raws if isinstance(raw, str | bytes))
        predictions: Iterable[Prediction | InputError]
        if len(raws) > 1 and size <= GROUP_SIZE:
            predictions = list(classifier.predict_each(raws, top_k=self._top_k))
        else:
            predictions = (classifier.answer_one(raw, top_k=self._top_k) for raw in raws)
        for position, raw, prediction in zip(positions, raws, predictions, strict=True):
            if self._observe is not None:
                self._observe(raw, prediction)
            if isinstance(prediction, InputError):
                self._fail(position, prediction)
            else:
                self._succeed(position, prediction, raw, pause)
            if size > GROUP_SIZE:
                self._check(pause)
        if size > LARGE:
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
                explanation = self._served.classifier.explain(
                    raw, label=prediction.top[0].label, check=lambda: self._check(pause)
                )
            except InputError as error:
                self._fail(position, error)
                return
        self.answers[position] = answer_json(prediction, self._served.model, explanation)
        self.outcomes[position] = "known" if prediction.known else "unknown"

    def _fail(self, position: int, error: InputError) -> None:
        self.answers[position] = error_json(error, self._served.model)
        self.outcomes[position] = error.code

    def _check(self, pause: Callable[[], None]) -> None:
        pause()
        if self.ended:
            raise Ended
