"""The signature of a served model: its column, its parameters, and the answers that `flowerml.serving.answer` writes.

MLflow reads from it what a Spark job gets, so that `mlflow.pyfunc.spark_udf` needs no result type.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowerml.classifier.classifier import TOP_K

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec


def signature(column: str) -> "ModelSignature":
    """Return the signature of a model that reads strings from `column`; MLflow lets bytes in a column of objects pass.

    A second type for bytes would need a second column, and every client to name one of them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, column)]),
        outputs=Schema(_columns()),
        params=ParamSchema([ParamSpec("top_k", DataType.long, TOP_K), ParamSpec("explain", DataType.boolean, False)]),
    )


def _columns() -> "list[ColSpec]":
    """Return the columns of an answer, in its order."""
    from mlflow.types import ColSpec, DataType
    from mlflow.types.schema import Array

    text, number = DataType.string, DataType.double
    classes = Array(_struct({"label": text, "name": text, "probability": number}))
    words = Array(_struct({"text": text, "weight": number}))
    return [
        ColSpec(classes, "top"),
        ColSpec(DataType.boolean, "known"),
        ColSpec(number, "out_of_distribution", required=False),
        ColSpec(text, "reason"),
        ColSpec(_struct({}, {"code": text, "message": text}), "error"),
        ColSpec(_struct({"name": text}, {"version": text}), "model"),
        ColSpec(_struct({"words": words}, {"label": text, "heat_map": text}), "explanation"),
    ]


def _struct(required: Mapping[str, Any], nullable: Mapping[str, Any] | None = None) -> Any:
    from mlflow.types.schema import Object, Property

    members = [*((name, dtype, True) for name, dtype in required.items())]
    members += ((name, dtype, False) for name, dtype in (nullable or {}).items())
    return Object([Property(name, dtype, is_required) for name, dtype, is_required in members])
