"""From the rows of a request to its answers: what every server of a classifier does."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import tee
from time import monotonic
from typing import TYPE_CHECKING, Any

from flowerml.classifier.classifier import TOP_K, Classifier
from flowerml.classifier.prediction import Prediction
from flowerml.core.errors import InputError
from flowerml.serving.answer import answer_json, error_json
from flowerml.serving.memory import LARGE, trim_malloc

if TYPE_CHECKING:
    import pandas as pd

Observe = Callable[[Any, Prediction | InputError], None]
"""Called with each raw input (or the InputError in its place) and its answer."""

_log = logging.getLogger(__name__)


class Answering:
    """A loaded classifier that answers rows of JSON values. May be used from many threads at once.

    `model` is {"name", "version"}. After `seconds` the rows that are left get the error `out_of_time`. `check` is
    called before each row and between the passes of an explanation; an InputError that it raises ends the work, and is
    the answer to the rows that are left.
    """

    def __init__(
        self,
        classifier: Classifier,
        model: dict[str, str | None],
        *,
        seconds: float = math.inf,
        observe: Observe | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.classifier = classifier
        self.model = model
        self.seconds = seconds
        self.observe = observe
        self.check = check

    def table(self, table: "pd.DataFrame", params: Mapping[str, Any] | None, *, trim: bool) -> list[dict[str, Any]]:
        """Return one answer for each row of a request as MLflow has read and checked it.

        With `trim` the memory of a large one is given back, as a server should.
        """
        params = params or {}
        values = table[self.classifier.task.INPUT].tolist()
        answers = self.answers(values, params.get("top_k", TOP_K), explain=bool(params.get("explain")))
        if trim and sum(len(value) for value in values if isinstance(value, str | list)) > LARGE:
            trim_malloc()
        return answers

    def answers(self, values: Sequence[Any], top_k: Any, *, explain: bool) -> list[dict[str, Any]]:
        """Return one answer for each row. Never raises for an input, nor for a `top_k` that is none."""
        answers: list[dict[str, Any]] = []
        deadline = monotonic() + self.seconds
        try:
            for answer in self._each(values, top_k, explain=explain):
                answers.append(answer)
                if monotonic() > deadline:
                    break
            error = InputError(
                "out_of_time", f"only {len(answers):,} of {len(values):,} rows could be answered in time"
            )
        except InputError as bad_parameter:  # applies to every row
            error = bad_parameter.without_traceback()
        except Exception:  # a bug, or out of memory: the reason goes to the log, not to the sender of a request
            _log.exception("a request of %d rows failed", len(values))
            error = InputError("internal_error", "the server failed; its log says why")
        return answers + [error_json(error, self.model)] * (len(values) - len(answers))

    def _each(self, values: Sequence[Any], top_k: Any, *, explain: bool) -> Iterator[dict[str, Any]]:
        inputs, raws = tee(self._decode(value) for value in values)
        for raw, prediction in zip(raws, self.classifier.predict_each(inputs, top_k=top_k), strict=True):
            if self.check is not None:
                self.check()
            if self.observe is not None:
                self.observe(raw, prediction)
            if isinstance(prediction, InputError):
                yield error_json(prediction, self.model)
            elif explain:
                label = prediction.top[0].label
                explanation = self.classifier.explain(raw, label=label, check=self.check)
                yield answer_json(prediction, self.model, explanation)
            else:
                yield answer_json(prediction, self.model)

    def _decode(self, value: Any) -> Any:
        try:
            # In a column of mixed types pandas has NaN for null.
            return self.classifier.task.from_json(None if isinstance(value, float) and math.isnan(value) else value)
        except InputError as error:
            return error.without_traceback()
