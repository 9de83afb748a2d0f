"""The signature that a version declares is that of the answers it gives."""

from typing import Any

import pytest
from mlflow.types.schema import Array, DataType, Object

from flowerml.classifier.prediction import ClassProbability, Prediction
from flowerml.core.errors import InputError
from flowerml.registry.signature import signature
from flowerml.serving.answer import answer_json, error_json
from flowerml.tasks.text.explanation import Explanation, Word

BEST = ClassProbability("a", "A", 0.9)
MODEL = {"name": "reviews", "version": None}
ANSWERS = [
    answer_json(Prediction((BEST,), known=True), MODEL),
    answer_json(Prediction((BEST, BEST), known=False, out_of_distribution=0.7, reason="unlike all"), MODEL),
    answer_json(Prediction((BEST,), known=True), MODEL, Explanation("a", (Word("good", 0.5),))),
    error_json(InputError("empty_text", "the text is empty"), MODEL),
]
TYPES = {DataType.string: str, DataType.double: float, DataType.boolean: bool}


def check(value: Any, dtype: Any, *, required: bool) -> None:
    """Assert that a value is of MLflow's type, or null where it may be."""
    if isinstance(dtype, Object):
        assert set(value) == {member.name for member in dtype.properties}
        for member in dtype.properties:
            check(value[member.name], member.dtype, required=member.required)
    elif isinstance(dtype, Array):
        assert isinstance(value, list)
        for item in value:
            check(item, dtype.dtype, required=True)
    else:
        assert isinstance(value, TYPES[dtype]) or (value is None and not required)


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_have_the_declared_columns(answer):
    columns = signature("text").outputs.inputs
    assert list(answer) == [column.name for column in columns]
    for column in columns:
        check(answer[column.name], column.type, required=column.required)


def test_no_column_of_strings_may_be_null():
    """MLflow 3.17 gives Spark the string 'nan' or 'None' for a null in a column of strings, and false for a boolean."""
    nullable = [column for column in signature("text").outputs.inputs if not column.required]
    assert [(column.name, column.type) for column in nullable] == [("out_of_distribution", DataType.double)]
