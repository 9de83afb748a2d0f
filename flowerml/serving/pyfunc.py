"""The MLflow face of a classifier. MLflow logs this file as code and runs it when the model is loaded."""

import math
import os
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from flowerml.classifier.classifier import Classifier
from flowerml.serving.answering import Answering
from flowerml.serving.memory import configure_malloc
from flowerml.serving.version import model_json

TIMEOUT_VARIABLE = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"  # seconds; `mlflow models serve` sets it, to 60 by default
TIME_SHARE = 0.75  # of those seconds; the rest is for reading the request and writing the reply


class ClassifierModel(PythonModel):
    """Answers rows of one column, each as `flowerml.serving.answer` says. May be used from many threads at once.

    The parameter `top_k` limits the classes of an answer; with `explain` each answer has an "explanation".
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier among the model's artifacts."""
        self.classifier = Classifier.load(context.artifacts["classifier"])
        self.is_served = TIMEOUT_VARIABLE in os.environ
        seconds = TIME_SHARE * float(os.environ[TIMEOUT_VARIABLE]) if self.is_served else math.inf
        self.answering = Answering(self.classifier, model_json(self.classifier), seconds=seconds)
        if self.is_served:
            configure_malloc()
            # Strings as Python objects. In pandas' own type one lone surrogate (JSON's "\\ud800") fails a whole request
            # before `predict` is called, and with it every row.
            pd.set_option("future.infer_string", False)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return one answer for each row. Never raises for an input: MLflow would fail all rows with a stack trace."""
        return self.answering.table(model_input, params, trim=self.is_served)


mlflow.models.set_model(ClassifierModel())
