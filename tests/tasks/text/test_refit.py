"""A refit of texts: valid is learned from, what was chosen stays, and folds calibrate."""

from contextlib import closing

import numpy as np
import pytest

from flowerml.core.errors import ParamsError
from flowerml.tasks import text
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tasks.text.networks import build_network
from tests.support.project import REPOSITORY
from tests.tasks.text.test_networks import encoded_texts, section


@pytest.fixture
def train():
    return load_pipeline("reviews", REPOSITORY / "params.yaml").train


def test_all_texts_are_training_texts(tmp_path):
    data = encoded_texts(tmp_path)
    joined = data.with_valid()
    for sequences in ("stems", "words"):
        before, after = getattr(data, sequences), getattr(joined, sequences)
        rows = [*before["train"], *before["valid"]]
        assert len(after["valid"]) == 0 and len(after["train"]) == len(rows)
        assert all(np.array_equal(one, other) for one, other in zip(after["train"], rows, strict=True))
    assert joined.targets["train"].tolist() == [*data.targets["train"], *data.targets["valid"]]
    assert len(data.words["valid"]) == 40


@pytest.mark.parametrize(("kind", "changes"), [("ngrams", {"folds": 3}), ("lstm", {"epochs": 2})])
def test_networks_learn_without_validation_texts(tmp_path, kind, changes):
    data = encoded_texts(tmp_path).with_valid()
    _, training = build_network(data, section(kind, **changes))
    with closing(training):
        epochs = list(training)
    assert epochs[-1].train_accuracy > 0.9
    assert np.isnan(epochs[-1].valid_accuracy) == (kind == "lstm")  # folds are held out for n-grams


def test_the_penalty_that_was_chosen_stays(train):
    refitted = train.with_values({"penalty": None}).refitted({"penalty": 3.0})
    assert (refitted.penalty, refitted.folds) == (3.0, 5)
    assert train.with_values({"folds": 2}).refitted({"penalty_head": 1.0}).folds == 2


def test_a_blend_with_an_lstm_has_no_refit(tmp_path, train):
    data = encoded_texts(tmp_path)
    alone = train.with_values({"search": {"trials": 1, "prune": False, "space": {}}})
    for section_of, refused in ((train, True), (alone, True), (alone.with_values({"network": "lstm"}), False)):
        if refused:
            with pytest.raises(ParamsError, match=r"train\.refit: a blend with an LSTM is weighed on valid"):
                text.with_valid(data, section_of)
        else:
            assert len(text.with_valid(data, section_of).words["valid"]) == 0
