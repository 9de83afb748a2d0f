"""The presentation of texts and predictions: on the page, in plots and in the model card."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from random import Random
from typing import TYPE_CHECKING, Any

from flowerml.core.display import truncate
from flowerml.tasks.base import Explanation
from flowerml.tasks.records import STRANGEST, Form, Snippets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flowerml.tasks.text.encoder import Preprocessing

NOUN = "text"
FORM: Form = "text"
POLES = True
NOTHING_KNOWN = "none of its words occurs in the training texts"
REVIEW = "A film to see twice."
SAMPLE_DATA = "reviews composed by a program"
EXAMPLE_ARGUMENT = shlex.quote(REVIEW)

SAMPLE_SEED = 2026  # not a seed of training data
SAMPLE_CANDIDATES = 40
FOR, AGAINST = "#2a7f62", "#b5443b"
DRAWN_WORDS = 12
PROGRAM = """
import mlflow
import pandas as pd

model = mlflow.pyfunc.load_model({address!r})
table = pd.DataFrame({{"text": ["{review}"]}})
for answer in model.predict(table, params={{"top_k": 3}}):
    if answer["error"]["code"]:
        print(answer["error"]["message"])
    for candidate in answer["top"]:
        print(candidate["name"], candidate["probability"])
"""
SPARK = """
from mlflow.pyfunc import spark_udf
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
predict = spark_udf(spark, {address!r}, env_manager="local", extra_env={{"FLOWERML_THREADS": "1"}})
texts = spark.read.text("texts.txt")  # one a line
answers = texts.select("value", predict("value").alias("result"))
answers.selectExpr("value", "get(result.top, 0).name", "result.error.code").show(truncate=False)
"""
REQUEST = """
echo '{"dataframe_split": {"columns": ["text"], "data": [["%s"]]}}' |
"""


def title(classes: Sequence[str] | None) -> str:
    """Return the name of an input on the page: "Review" for two classes, as in sentiment, else "Text"."""
    return "Review" if _may_be_sentiment(classes) else "Text"


def samples(classes: Sequence[str] | None) -> list[bytes | str]:
    """Return short reviews of invented films, two of each mood, alternating; none unless there are two classes."""
    if not _may_be_sentiment(classes):
        return []
    from flowerml.tasks.text.sample import compose

    shortest: list[list[str]] = []
    for mood in ("pos", "neg"):
        composed = [compose(mood, rng=Random(f"{SAMPLE_SEED}/{mood}/{index}")) for index in range(SAMPLE_CANDIDATES)]
        shortest.append(sorted((text for text in composed if "<" not in text), key=len)[:2])
    return [text for pair in zip(*shortest, strict=True) for text in pair]


def draw(
    axes: "Axes",
    raw: str,
    preprocessing: "Preprocessing",
    explain: Callable[[], Explanation],
    *,
    name: str,
) -> None:
    """Draw the words that weigh most for and against the best class as horizontal bars."""
    words = [(word["text"], word["weight"]) for word in explain().to_json()["words"] if word["weight"]]
    strongest = sorted(words, key=lambda word: -abs(word[1]))[:DRAWN_WORDS]
    texts, weights = zip(*sorted(strongest, key=lambda word: word[1]), strict=True) if strongest else ((), ())
    axes.barh(range(len(strongest)), weights, color=[FOR if weight > 0 else AGAINST for weight in weights])
    # matplotlib would read a dollar sign as the start of a formula.
    axes.set_yticks(range(len(strongest)), [truncate(text, 30).replace("$", r"\$") for text in texts])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(f"spoke against or for {name}")
    axes.spines[["top", "right"]].set_visible(False)


def unlike(strangeness: float) -> str:
    """Return why an input of this strangeness is unlike the training texts."""
    return NOTHING_KNOWN if strangeness >= STRANGEST else "unlike the training texts"


def snippets(address: str) -> Snippets:
    """Return code and a command that classify a short review with a registered version."""
    return Snippets(
        python=PROGRAM.format(address=address, review=REVIEW).strip(),
        spark=SPARK.format(address=address).strip(),
        request=(REQUEST % REVIEW).strip(),
    )


def describe_network(encoder: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Return the network's name and, where it reads one, the pretrained encoder's."""
    backbone = encoder.get("backbone")
    network = parameters.get("train.network") or ("blend" if backbone else "ngrams")
    if not isinstance(backbone, Mapping):
        return str(network)
    name = backbone["name"] if backbone["name"].startswith("hf/") else PurePath(backbone["name"]).name
    head = "a linear head" if not parameters.get("train.hidden_units") else "a head with hidden layers"
    blended = ", blended with n-grams" if network == "blend" else ""
    return f"{name}, frozen, and {head}{blended}"


def limitations(parameters: Mapping[str, Any]) -> list[str]:
    """Return sentences on what the classifier does not read."""
    sentences = []
    if parameters.get("encode.stem") or parameters.get("encode.stop_words") != "keep":
        sentences.append("It reads English: its stop words and stems are English ones.")
    if parameters.get("encode.backbone") and parameters.get("train.network") != "ngrams":
        sentences.append(
            f"Its pretrained encoder reads the first {parameters.get('encode.max_tokens')} tokens of a text, and knows "
            "the languages and the prejudices of what it was trained on."
        )
    if parameters.get("encode.max_length"):
        sentences.append(
            f"Of a long text it reads the first {parameters['encode.max_length']} stems"
            f" and {parameters.get('encode.max_words')} words, as far as its network uses these."
        )
    return sentences


def _may_be_sentiment(classes: Sequence[str] | None) -> bool:
    """Return whether this may be a model of reviews; the classes of a server are unknown (None)."""
    return classes is None or len(classes) == 2
