"""Held-out margins by cross-validation."""

import numpy as np
import pytest

from flowerml.tasks.text.networks.folds import fold_numbers, folds_needed, hold_out


def test_classes_are_spread_evenly_over_folds():
    targets = np.array([0] * 17 + [1] * 4 + [2])
    numbers = fold_numbers(targets, 4)
    for label, fewest, most in ((0, 4, 5), (1, 1, 1), (2, 0, 1)):
        counts = np.bincount(numbers[targets == label], minlength=4)
        assert fewest <= counts.min() <= counts.max() <= most


def test_sorted_texts_are_shuffled():
    assert fold_numbers(np.zeros(100, int), 5).tolist() != (np.arange(100) % 5).tolist()


def test_same_targets_same_folds():
    targets = np.random.default_rng(1).integers(0, 3, 50)
    assert fold_numbers(targets, 5).tolist() == fold_numbers(targets.copy(), 5).tolist()


def test_a_large_valid_split_needs_no_folds():
    assert [folds_needed(5, valid) for valid in (1999, 2000)] == [5, 0]


TARGETS = {"train": np.array([0, 1] * 6), "valid": np.array([1, 0, 1])}


def remembering(rows):
    """Return a model whose margins say whether it has seen a training text."""

    def model(split, asked):
        seen = np.isin(asked, rows) if split == "train" else np.full(len(asked), 7)
        return np.stack([seen, np.full(len(asked), len(rows))], axis=1)

    return model


@pytest.mark.parametrize("folds", [2, 5])
def test_no_model_answers_for_its_own_texts(folds):
    held_out = hold_out(remembering, TARGETS, folds=folds)
    assert held_out.margins[:, 0].tolist() == [7] * 3 + [0] * 12
    assert held_out.targets.tolist() == [1, 0, 1] + [0, 1] * 6
    assert (held_out.margins[3:, 1] < 12).all()


def test_the_model_has_all_training_texts():
    held_out = hold_out(remembering, TARGETS, folds=3)
    assert held_out.model("train", np.arange(12))[:, 0].all()
    assert held_out.margins[:3, 1].tolist() == [12] * 3


def test_without_folds_valid_alone_is_held_out():
    held_out = hold_out(remembering, TARGETS, folds=0)
    assert held_out.targets.tolist() == [1, 0, 1]
    assert held_out.accuracy == pytest.approx(2 / 3)  # the second margin, 12, is the highest


def test_no_more_folds_than_enough():
    targets = {"train": np.arange(4000) % 2, "valid": np.zeros(900, int)}
    fitted = []
    held_out = hold_out(lambda rows: (fitted.append(len(rows)), remembering(rows))[1], targets, folds=5)
    assert fitted == [4000, 3200, 3200]
    assert len(held_out.targets) == 900 + 2 * 800
    assert np.isfinite(held_out.margins).all()
