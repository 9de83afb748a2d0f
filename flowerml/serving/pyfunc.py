"""The MLflow face of a classifier. MLflow logs this file as code and runs it when the model is loaded."""

import logging
import math
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from flowerml.classifier.classifier import TOP_K, Classifier, Prediction
from flowerml.core.errors import InputError
from flowerml.engine.parallel import map_readable
from flowerml.serving import memory
from flowerml.serving import version as identity

LIMIT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"  # seconds; `mlflow models serve` sets it, to 60 where nobody else has
SHARE = 0.75  # of those seconds; the rest is for reading the request and writing the answer

_log = logging.getLogger(__name__)


class ClassifierModel(PythonModel):
    """Answers rows of one column with {"top": […], "known": …, "model": …}, or {"error": …} for those it cannot read.

    With the parameter `explain`, each answer has an "explanation". May be used from many threads at once.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier among the model's artifacts."""
        self.classifier = Classifier.load(context.artifacts["classifier"])
        name = self.classifier.description["trained"]["pipeline"]
        name, version = identity.registered(Path(context.artifacts["classifier"])) or (name, None)
        self.model = {"name": name, "version": version}
        self.served = LIMIT in os.environ
        self.seconds = SHARE * float(os.environ[LIMIT]) if self.served else math.inf
        if self.served:
            memory.give_back_large_blocks()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One answer for each row. Never raises for an input: MLflow would answer all rows with a stack trace."""
        params = params or {}
        values = model_input[self.classifier.task.INPUT].tolist()
        answers: list[dict[str, Any]] = []
        until = monotonic() + self.seconds
        try:
            for answer in self._answers(values, params.get("top_k", TOP_K), explain=bool(params.get("explain"))):
                answers.append(answer)
                if monotonic() > until:
                    break
            left = InputError("out_of_time", f"only {len(answers):,} of {len(values):,} rows could be answered in time")
        except InputError as error:  # of the parameters, and so of every row
            left = error.without_traceback()
        except Exception:  # a bug, or no memory: the log may know why, the sender of a request must not
            _log.exception("a request of %d rows failed", len(values))
            left = InputError("internal_error", "the server failed; its log says why")
        if self.served and sum(len(value) for value in values if isinstance(value, str | list)) > memory.LARGE:
            memory.give_back_small_blocks()
        return answers + [_error(left)] * (len(values) - len(answers))

    def _answers(self, values: list[Any], top_k: Any, *, explain: bool) -> Iterator[dict[str, Any]]:
        raws = (_decoded(self.classifier, value) for value in values)
        predict = partial(self.classifier.predict_each, top_k=top_k)
        for raw, found in map_readable(((raw, raw) for raw in raws), predict):
            if isinstance(found, InputError):
                yield _error(found)
            else:
                yield self._answer(found) | (self._explanation(raw, found) if explain else {})

    def _answer(self, prediction: Prediction) -> dict[str, Any]:
        return {**prediction.to_json(), "model": self.model}

    def _explanation(self, raw: Any, prediction: Prediction) -> dict[str, Any]:
        return {"explanation": self.classifier.explain(raw, label=prediction.top[0].label).to_json()}


def _error(error: InputError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message}}


def _decoded(classifier: Classifier, value: Any) -> Any:
    try:
        # In a column with other things, pandas has NaN for null.
        return classifier.task.from_json(None if isinstance(value, float) and math.isnan(value) else value)
    except InputError as error:
        return error.without_traceback()


mlflow.models.set_model(ClassifierModel())
