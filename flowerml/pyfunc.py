"""The MLflow face of a classifier. MLflow logs this file as code and runs it when the model is loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import yaml
from mlflow.pyfunc import PythonModel, PythonModelContext

from flowerml.classifier import TOP_K, Classifier
from flowerml.errors import InputError


class ClassifierModel(PythonModel):
    """Answers rows of one column with {"top": […], "model": …}, or {"error": …} for those it cannot read."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier among the model's artifacts."""
        self.classifier = Classifier.load(context.artifacts["classifier"])
        name = self.classifier.description["trained"]["pipeline"]
        self.model = _registered(Path(context.artifacts["classifier"])) or {"name": name, "version": None}

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One answer for each row. Never raises for an input: MLflow would answer all rows with a stack trace."""
        top_k = (params or {}).get("top_k", TOP_K)
        values = model_input[self.classifier.task.INPUT].tolist()
        try:
            return [self._answer(one) for one in self._predictions(values, top_k)]
        except InputError as error:
            return [self._answer(error) for _ in values]

    def _predictions(self, values: list[Any], top_k: Any) -> Iterator[Any]:
        raws = [_decoded(self.classifier, value) for value in values]
        readable = (raw for raw in raws if not isinstance(raw, InputError))
        predictions = self.classifier.predict_each(readable, top_k=top_k)
        for raw in raws:
            yield raw if isinstance(raw, InputError) else next(predictions)

    def _answer(self, one: Any) -> dict[str, Any]:
        if isinstance(one, InputError):
            return {"error": {"code": one.code, "message": one.message}}
        return {**one.to_json(), "model": self.model}


def _decoded(classifier: Classifier, value: Any) -> Any:
    try:
        return classifier.task.from_json(value)
    except InputError as error:
        return error


def _registered(artifact: Path) -> dict[str, str | None] | None:
    """Name and version, where the model was loaded by a `models:/` address: MLflow leaves them beside MLmodel."""
    for folder in artifact.resolve().parents:
        if (folder / "MLmodel").exists():
            path = folder / "registered_model_meta"
            meta = yaml.safe_load(path.read_text()) if path.exists() else {}
            name, number = meta.get("model_name"), meta.get("model_version")
            return {"name": name, "version": str(number)} if name else None
    return None


mlflow.models.set_model(ClassifierModel())
