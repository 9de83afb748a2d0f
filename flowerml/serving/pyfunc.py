"""The MLflow face of a classifier. MLflow logs this file as code and runs it when the model is loaded."""

import logging
import math
import os
from collections.abc import Iterator
from itertools import tee
from time import monotonic
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from flowerml.classifier.classifier import TOP_K, Classifier
from flowerml.core.errors import InputError
from flowerml.serving.answer import answer_json, error_json
from flowerml.serving.memory import LARGE, configure_malloc, trim_malloc
from flowerml.serving.version import model_json

TIMEOUT_VARIABLE = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"  # seconds; `mlflow models serve` sets it, to 60 by default
TIME_SHARE = 0.75  # of those seconds; the rest is for reading the request and writing the reply

_log = logging.getLogger(__name__)


class ClassifierModel(PythonModel):
    """Answers rows of one column, each as `flowerml.serving.answer` says. May be used from many threads at once.

    The parameter `top_k` limits the classes of an answer; with `explain` each answer has an "explanation".
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier among the model's artifacts."""
        self.classifier = Classifier.load(context.artifacts["classifier"])
        self.model = model_json(self.classifier)
        self.is_served = TIMEOUT_VARIABLE in os.environ
        self.seconds = TIME_SHARE * float(os.environ[TIMEOUT_VARIABLE]) if self.is_served else math.inf
        if self.is_served:
            configure_malloc()
            # Strings as Python objects. In pandas' own type one lone surrogate (JSON's "\\ud800") fails a whole request
            # before `predict` is called, and with it every row.
            pd.set_option("future.infer_string", False)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return one answer for each row. Never raises for an input: MLflow would fail all rows with a stack trace."""
        params = params or {}
        values = model_input[self.classifier.task.INPUT].tolist()
        answers: list[dict[str, Any]] = []
        deadline = monotonic() + self.seconds
        try:
            for answer in self._answers(values, params.get("top_k", TOP_K), explain=bool(params.get("explain"))):
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
        if self.is_served and sum(len(value) for value in values if isinstance(value, str | list)) > LARGE:
            trim_malloc()
        return answers + [error_json(error, self.model)] * (len(values) - len(answers))

    def _answers(self, values: list[Any], top_k: Any, *, explain: bool) -> Iterator[dict[str, Any]]:
        inputs, raws = tee(_decode(self.classifier, value) for value in values)
        for raw, prediction in zip(raws, self.classifier.predict_each(inputs, top_k=top_k), strict=True):
            if isinstance(prediction, InputError):
                yield error_json(prediction, self.model)
            else:
                label = prediction.top[0].label
                yield answer_json(
                    prediction, self.model, self.classifier.explain(raw, label=label) if explain else None
                )


def _decode(classifier: Classifier, value: Any) -> Any:
    try:
        # In a column of mixed types pandas has NaN for null.
        return classifier.task.from_json(None if isinstance(value, float) and math.isnan(value) else value)
    except InputError as error:
        return error.without_traceback()


mlflow.models.set_model(ClassifierModel())
