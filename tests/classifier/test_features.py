"""Features of predictions, by which drift is found: the third output of the graph; earlier classifiers have none."""

import json
import shutil

import numpy as np
import pytest

from flowerml import Classifier
from flowerml.classifier.saved import REFERENCE
from flowerml.core.errors import ModelError
from flowerml.monitoring.reference import read_reference
from tests.classifier.test_old_classifiers import SAVED, THEN
from tests.support.detecting import TEXTS, detecting_classifier

EMPTY = b'{"format":1,"features":[],"columns":{}}'


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "c"
    return detecting_classifier(folder, lambda saved: {REFERENCE: EMPTY if saved.calibration.strange_above else b""})


@pytest.fixture
def copied(classifier, tmp_path):
    return shutil.copytree(classifier.folder, tmp_path / "c")


def describe(folder, **changed):
    description = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps({**description, **changed}))


def test_a_prediction_has_named_features(classifier):
    (answer,) = classifier.predict(TEXTS[:1])
    assert classifier.features[:3] == ("known words", "rare words", "unusual order")
    assert len(answer.features) == len(classifier.features) == 19
    assert all(isinstance(value, float) for value in answer.features)


def test_features_tell_texts_apart(classifier):
    familiar, foreign, both = (
        answer.features for answer in classifier.predict([TEXTS[0], "qwertz asdf", "film qwertz"])
    )
    assert [features[0] for features in (familiar, foreign, both)] == [1.0, 0.0, 0.5]
    assert familiar[1] < both[1] < foreign[1]


def test_topics_tell_topics_apart(classifier):
    """Topics of the training texts have a mean of 0 and a deviation of 1."""
    topics = np.array([answer.features for answer in classifier.predict(TEXTS)])[:, 3:]
    np.testing.assert_allclose(topics.mean(0), 0, atol=1e-2)
    assert topics.std(0).max() == pytest.approx(1, abs=1e-2)


def test_no_answer_shows_features(classifier):
    (answer,) = classifier.predict(TEXTS[:1])
    assert "features" not in answer.to_json() and "features" not in repr(answer)


def test_an_earlier_classifier_has_none():
    classifier = Classifier.load(SAVED)
    assert classifier.features == () and classifier.predict(THEN["texts"][:1])[0].features == ()
    assert read_reference(classifier.folder, classifier.description) is None


@pytest.mark.parametrize("names", [["a"], [], ["a"] * 19, [""] * 19, [f"{number}" for number in range(65)], "a", [1]])
def test_names_must_fit_the_graph(copied, names):
    describe(copied, features=names)
    with pytest.raises(ModelError) as error:
        Classifier.load(copied)
    assert str(error.value).isprintable()


def test_a_reference_is_saved_with_a_calibrated_classifier(classifier):
    assert (classifier.folder / REFERENCE).read_bytes() == EMPTY
    assert read_reference(classifier.folder, classifier.description).count == 0


@pytest.mark.parametrize("content", [None, b"{}", EMPTY + b" "])
def test_a_reference_is_the_one_that_was_saved(copied, content):
    (copied / REFERENCE).unlink()
    if content is not None:
        (copied / REFERENCE).write_bytes(content)
    classifier = Classifier.load(copied)  # which answers without it
    with pytest.raises(ModelError, match=r"reference\.json .*copy the whole folder again"):
        read_reference(copied, classifier.description)
