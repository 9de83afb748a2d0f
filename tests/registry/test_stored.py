"""The answers that are stored with a version."""

import json

import pytest

from flowerml.core.errors import ModelError
from flowerml.registry import stored
from flowerml.registry.stored import StoredExample
from tests.support.registered import text_classifier


class Answers:
    """Stored answers of two examples, the second of which cannot be read."""

    def __init__(self, path, classifier) -> None:
        self.path = path
        self.classifier = classifier
        stored.write(path, classifier, ["A good film.", ""])

    def disagreement(self, *path, value=None) -> str | None:
        """Return the disagreement once the value at a path in the file is replaced."""
        content = json.loads(self.path.read_text())
        inner = content["answers"]
        for key in path[:-1]:
            inner = inner[key]
        if path:
            inner[path[-1]] = value
        self.path.write_text(json.dumps(content))
        return StoredExample.read(self.path).disagreement(self.classifier)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return text_classifier(tmp_path_factory.mktemp("reviews") / "classifier")


@pytest.fixture
def answers(classifier, tmp_path):
    return Answers(tmp_path / stored.FILE, classifier)


def test_same_classifier_agrees(answers):
    assert answers.disagreement() is None


def test_rounding_is_no_disagreement(answers):
    probability = StoredExample.read(answers.path).answers[0].top[0].probability
    assert answers.disagreement(0, "top", 0, "probability", value=probability - 0.0009) is None
    assert "expected a probability" in answers.disagreement(0, "top", 0, "probability", value=probability - 0.0011)


def test_other_error(answers):
    assert answers.disagreement(1, "error", "code", value="not_a_text") == (
        "expected the error not_a_text, found the error empty_text"
    )


def test_other_classes(answers):
    assert answers.disagreement(0, "top", 0, "label", value="other") == "it knows other classes"


def test_other_detector(answers):
    assert "out of distribution" in answers.disagreement(0, "out_of_distribution", value=0.3)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"inputs": [], "answers": []}', b'{"inputs": [1], "answers": [{}]}'])
def test_damaged_file(tmp_path, content):
    (tmp_path / stored.FILE).write_bytes(content)
    with pytest.raises(ModelError, match="register the version again"):
        StoredExample.read(tmp_path / stored.FILE)
