"""Registered versions in Spark, in local mode: the documented snippet, and rows that cannot be read."""

import base64
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flowerml import Classifier
from flowerml.core.errors import InputError
from flowerml.engine.parallel import THREADS_VARIABLE
from flowerml.serving.answer import answer_json, error_json
from tests.support.registered import jpeg, picture_classifier, register_version, registry, text_classifier

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java: no java on PATH"),
]
PICTURES = 15  # `show` prints 20 rows
TEXTS = ["A good film.", "", None, "dull", " ", "Never a dull film! " * 9, "9", "\0a\ufffd", "x" * 2_000_000, "cast"]
CODES = [None, "empty_text", "not_a_text", None, "empty_text", None, None, None, "text_too_long", None]
# Spark leaves out empty files.
BROKEN = {"a.jpg": b"no picture", "c.jpg": b"\xff" * 100_000_000, "d.jpg": jpeg(1)[:900]}
BROKEN_CODES = dict.fromkeys(BROKEN, "unreadable_image") | {"c.jpg": "image_too_large"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """Yield a folder with a registry of flowers and reviews, in which the tests work."""
    folder = tmp_path_factory.mktemp("spark")
    pictures = picture_classifier(folder / "flowers/classifier")
    texts = text_classifier(folder / "reviews/classifier")
    with registry(folder):
        register_version(pictures, jpeg(0), "flowers")
        register_version(texts, "A good film.", "reviews")
        (folder / "pictures").mkdir()
        for number in range(PICTURES):
            (folder / f"pictures/{number}.jpg").write_bytes(jpeg(number))
        yield folder


@pytest.fixture(scope="module")
def spark(folder) -> "Iterator[SparkSession]":
    pyspark = pytest.importorskip("pyspark.sql")
    settings = {
        "spark.driver.memory": "2g",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.log.level": "ERROR",
    }
    builder = pyspark.SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = builder.getOrCreate()
        yield session
        session.stop()


def answered(spark: "SparkSession", frame: "DataFrame", column: str, name: str, **options: Any) -> "DataFrame":
    """Return the frame with a column `result`, answered by version 1 of a registered model."""
    from mlflow.pyfunc import spark_udf

    options = {"env_manager": "local", "extra_env": {THREADS_VARIABLE: "1"}, **options}
    return frame.withColumn("result", spark_udf(spark, f"models:/{name}/1", **options)(column))


def results(frame: "DataFrame") -> list[dict[str, Any]]:
    """Return the answers in the order of the rows, as plain data."""
    return [row["result"].asDict(recursive=True) for row in frame.collect()]


def own_answers(folder: Path, name: str, raws: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the answers of the classifier itself, in one process."""
    answers = Classifier.load(folder / name / "classifier", threads=3).predict_each(raws)
    model = {"name": name, "version": "1"}
    return [
        error_json(answer, model) if isinstance(answer, InputError) else answer_json(answer, model)
        for answer in answers
    ]


def test_pictures_of_binary_files_get_the_classifiers_bits(spark, folder):
    shutil.copytree(folder / "pictures", folder / "more")
    for name, content in BROKEN.items():
        (folder / "more" / name).write_bytes(content)
    files = spark.read.format("binaryFile").load(str(folder / "more")).repartition(3)
    rows = answered(spark, files, "content", "flowers").select("path", "result").collect()
    answers = {Path(row["path"]).name: row["result"].asDict(recursive=True) for row in rows}
    assert len(answers) == PICTURES + len(BROKEN)
    own = own_answers(folder, "flowers", [folder / "more" / name for name in answers])
    for (name, answer), expected in zip(answers.items(), own, strict=True):
        if name in BROKEN:
            assert (answer["top"], answer["known"], answer["error"]["code"]) == ([], False, BROKEN_CODES[name])
        else:
            assert answer == expected


@pytest.mark.parametrize("kind", ["binary", "string"])
def test_no_row_of_pictures_fails_the_job(spark, folder, kind):
    values: list[Any] = [None, "", "no picture", "é", base64.b64encode(jpeg(1)).decode()]
    if kind == "binary":
        values = [None, b"", b"no picture", b"\xff\xd8\xff", jpeg(1)]
    column = spark.createDataFrame([(value,) for value in values], f"image {kind}").coalesce(1)
    answers = results(answered(spark, column, "image", "flowers").select("result"))
    assert [bool(answer["error"]["code"]) for answer in answers] == [True, True, True, True, False]
    assert answers[-1:] == own_answers(folder, "flowers", [jpeg(1)])


def test_texts_in_order_get_the_classifiers_bits(spark, folder):
    rows = [(number, text) for number, text in enumerate(TEXTS * 9)]
    texts = spark.createDataFrame(rows, "id int, text string").coalesce(1)
    answers = results(answered(spark, texts, "text", "reviews").select("result"))
    own = own_answers(folder, "reviews", [text for _, text in rows])
    assert [answer["error"]["code"] for answer in answers[: len(TEXTS)]] == CODES
    assert [answer for answer in answers if not answer["error"]["code"]] == [
        answer for answer in own if not answer["error"]["code"]
    ]


def test_partitions_change_the_last_bits_of_texts_alone(spark, folder):
    texts = spark.createDataFrame([(number, text) for number, text in enumerate(TEXTS * 9)], "id int, text string")
    frame = answered(spark, texts.repartition(5), "text", "reviews").select("id", "result").orderBy("id")
    for answer, own in zip(results(frame), own_answers(folder, "reviews", TEXTS * 9), strict=True):
        assert [best["label"] for best in answer["top"]] == [best["label"] for best in own["top"]]
        assert [best["probability"] for best in answer["top"]] == pytest.approx(
            [best["probability"] for best in own["top"]], abs=1e-6
        )


def test_parameters_and_explanations(spark, folder):
    texts = spark.createDataFrame([("A good film.",), (None,)], "text string").coalesce(1)
    frame = answered(spark, texts, "text", "reviews", params={"top_k": 1, "explain": True}).select("result")
    explained, unread = results(frame)
    assert len(explained["top"]) == 1
    assert "".join(word["text"] for word in explained["explanation"]["words"]) == "A good film."
    assert unread["explanation"] == {"label": None, "heat_map": None, "words": []}


def test_documented_programs_run(spark, folder, capsys):
    (folder / "pictures/a.jpg").write_bytes(b"no picture")
    (folder / "texts.txt").write_text("A good film.\n\nNever dull.\n")
    for name in ("flowers", "reviews"):
        task = Classifier.load(folder / name / "classifier").task
        exec(task.snippets(f"models:/{name}/1").spark, {})
    shown = capsys.readouterr().out
    assert "daisy" in shown or "poppy" in shown or "rose" in shown
    assert "unreadable_image" in shown and "empty_text" in shown


def test_executors_read_the_variable(spark, folder):
    texts = spark.createDataFrame([("A good film.",)], "text string")
    frame = answered(spark, texts, "text", "reviews", extra_env={THREADS_VARIABLE: "many"})
    with pytest.raises(Exception, match="FLOWERML_THREADS: expected a whole number"):
        frame.collect()
