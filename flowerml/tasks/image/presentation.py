"""How pictures, and answers to them, are shown to a person: on the page, in plots and in the model card."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flowerml.tasks.base import Explanation
from flowerml.tasks.records import Form, Snippets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flowerml.tasks.image.encoder import Picture, Preprocessing

NOUN = "picture"
FORM: Form = "picture"
POLES = False
SAMPLE_DATA = "flowers drawn by a program"
EXAMPLE_ARGUMENT = "picture.jpg"

SAMPLE_SEED = 2026  # no training data is drawn with it
SAMPLE_SPECIES = ("sunflower", "tulip", "poppy", "daisy", "bluebell")
PROGRAM = """
import base64
from pathlib import Path

import mlflow
import pandas as pd

model = mlflow.pyfunc.load_model({address!r})
picture = base64.b64encode(Path("picture.jpg").read_bytes()).decode()
for answer in model.predict(pd.DataFrame({{"image": [picture]}}), params={{"top_k": 3}}):
    if answer["error"]["code"]:
        print(answer["error"]["message"])
    for candidate in answer["top"]:
        print(candidate["name"], candidate["probability"])
"""
SPARK = """
from mlflow.pyfunc import spark_udf
from pyspark.sql import SparkSession

# Spark hands over 10,000 rows at a time by default, which is gigabytes of pictures.
spark = SparkSession.builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 200).getOrCreate()
predict = spark_udf(spark, {address!r}, env_manager="local", extra_env={{"FLOWERML_THREADS": "1"}})
pictures = spark.read.format("binaryFile").load("pictures")
answers = pictures.select("path", predict("content").alias("result"))
answers.selectExpr("path", "get(result.top, 0).name", "result.error.code").show(truncate=False)
"""
REQUEST = """
(printf '{"dataframe_split": {"columns": ["image"], "data": [["'
 base64 < picture.jpg | tr -d '\\n'
 printf '"]]}}') |
"""


def title(classes: Sequence[str] | None) -> str:
    """Return what an input is called on the page."""
    return "Picture"


def samples(classes: Sequence[str] | None) -> list[bytes | str]:
    """Return drawn flowers as JPEGs."""
    from flowerml.tasks.image.sample import jpeg

    return [jpeg(species, number, SAMPLE_SEED) for number, species in enumerate(SAMPLE_SPECIES, start=1)]


def draw(
    axes: "Axes",
    raw: "Picture",
    preprocessing: "Preprocessing",
    explain: Callable[[], Explanation],
    *,
    name: str,
) -> None:
    """Draw the picture as the network sees it."""
    axes.imshow(preprocessing.visualize(preprocessing.transform(raw)))
    axes.set_axis_off()


def unlike(strangeness: float) -> str:
    """Return why an input of this strangeness is unlike the training pictures."""
    return "unlike the training pictures"


def snippets(address: str) -> Snippets:
    """Return how to ask a registered version about `picture.jpg`."""
    return Snippets(
        python=PROGRAM.format(address=address).strip(),
        spark=SPARK.format(address=address).strip(),
        request=REQUEST.strip(),
    )


def describe_network(encoder: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Return the backbones, what of them is trained, and the head, in a few words."""
    hidden = parameters.get("train.hidden_units") or []
    head = f"a head with hidden layers of {', '.join(map(str, hidden))}" if hidden else "a linear head"
    backbone = encoder["backbone"]
    names = backbone if isinstance(backbone, str) else " with ".join(backbone)
    return f"{names}, {_border(encoder.get('trainable_blocks', 0))}, and {head}"


def _border(blocks: int | str) -> str:
    if blocks == 0:
        return "frozen"
    if blocks == "all":
        return "trained as a whole"
    return "of which the last block is trained" if blocks == 1 else f"of which the last {blocks} blocks are trained"


def limitations(parameters: Mapping[str, Any]) -> list[str]:
    """Return what a classifier of pictures does not do."""
    return ["A picture gets one answer, even where it shows several things."]
