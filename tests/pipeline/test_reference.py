"""The reference of a trained classifier, from its validation examples."""

import pytest

from flowerml import Classifier
from flowerml.data import examples
from flowerml.data.examples import Example, Examples
from flowerml.monitoring.reference import Accuracy
from flowerml.pipeline.reference import fit_reference, of_refitted
from tests.classifier.test_old_classifiers import SAVED
from tests.support.detecting import TEXTS, detecting_classifier


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return detecting_classifier(tmp_path_factory.mktemp("reference") / "c")


@pytest.fixture(scope="module")
def table(tmp_path_factory, classifier):
    """Six validation examples, whose labels are the classifier's answers but for one."""
    labels = [answer.top[0].label for answer in classifier.predict(TEXTS[:6])]
    labels[0] = {"neg": "pos", "pos": "neg"}[labels[0]]
    rows = [Example(str(number), "valid", label, TEXTS[number]) for number, label in enumerate(labels)]
    path = tmp_path_factory.mktemp("table") / "examples.parquet"
    examples.write(path, [*rows, Example("test", "test", "pos", "A test.")], raw=str)
    return Examples(path)


def test_a_reference_has_the_numbers_of_validation_examples(classifier, table):
    reference = fit_reference(classifier, table)
    assert (reference.count, reference.accuracy) == (6, Accuracy("valid", correct=5, count=6))
    assert set(classifier.features) < set(reference.columns) and "negation" in reference.columns
    assert reference.columns["class"][0] == classifier.predict(TEXTS[:1])[0].top[0].label
    assert reference == fit_reference(classifier, table)


def test_without_validation_examples_it_is_empty(classifier, tmp_path):
    examples.write(tmp_path / "e.parquet", [Example("a", "test", "pos", "A test.")], raw=str)
    assert fit_reference(classifier, Examples(tmp_path / "e.parquet")).columns == {}


def test_after_a_refit_only_the_same_features_are_kept(classifier, table):
    reference = fit_reference(classifier, table)
    assert of_refitted(reference, classifier, classifier, table) is reference
    kept = of_refitted(reference, classifier, Classifier.load(SAVED), table)
    assert kept.features == () and not set(classifier.features) & set(kept.columns)
    assert kept.columns["words"] == reference.columns["words"]
