"""Principal components of features, by which drift is found."""

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from threadpoolctl import ThreadpoolController

from flowerml.engine.components import COUNT, Components, principal_directions


def features(count=300, width=60, *, seed=0):
    """Return features whose variances fall from component to component, in directions of their own."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.standard_normal((width, width)))[0]
    return (rng.standard_normal((count, width)) * 0.7 ** np.arange(width) @ turned + 5).astype(np.float32)


def components(fitted, rows):
    return fitted(torch.from_numpy(rows)).numpy()


def test_components_of_training_examples_are_standardized():
    rows = features()
    fitted = components(Components.fit(rows), rows)
    assert fitted.shape == (300, COUNT)
    np.testing.assert_allclose(fitted.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(fitted.std(0), 1, atol=0.01)


def test_they_are_those_of_a_whole_decomposition():
    rows = features()
    centered = rows - rows.mean(0)
    whole = np.linalg.svd(centered.astype(np.float64), full_matrices=False)[2][:8]
    found = principal_directions(centered, 8)
    np.testing.assert_allclose(np.abs(whole @ found), np.eye(8), atol=0.02)


def test_sparse_rows_have_the_same_directions():
    rows = np.where(features() > 5.3, features(), 0).astype(np.float32)
    dense, of_sparse = principal_directions(rows, 4), principal_directions(sparse.csr_matrix(rows), 4)
    np.testing.assert_allclose(dense, of_sparse, atol=1e-4)


@pytest.mark.parametrize("rows", [np.zeros((5, 3)), np.ones((1, 7)), features(3), np.eye(2)])
def test_few_or_constant_rows_give_finite_numbers(rows):
    rows = rows.astype(np.float32)
    fitted = components(Components.fit(rows), rows)
    assert fitted.shape == (len(rows), COUNT) and np.isfinite(fitted).all() and np.abs(fitted).max() < 10


def test_a_new_class_moves_them():
    old = features()
    new = old[:50] + 3 * np.linalg.qr(np.random.default_rng(0).standard_normal((60, 60)))[0][0].astype(np.float32)
    assert np.abs(components(Components.fit(old), new).mean(0)).max() > 0.5


def test_threads_do_not_change_bits():
    rows, fitted = features(500, 1280), []
    for threads in (1, 2):
        with ThreadpoolController().limit(limits=threads, user_api="blas"):
            fitted.append(Components.fit(rows).directions.numpy())
    assert np.array_equal(*fitted)
