"""The distance of features to those of the training examples."""

import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController

from flowerml.engine import onnx
from flowerml.engine.feature_distance import MAX_PROTOTYPES, fit_feature_distance

RNG = np.random.default_rng(0)
CENTERS = 3 * RNG.normal(size=(4, 16))


def drawn(count):
    """Return features about four centers, so that their mean is unlike any of them."""
    return (CENTERS[RNG.integers(4, size=count)] + RNG.normal(size=(count, 16))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    return fit_feature_distance(drawn(400))


def scores(module, features):
    return module(torch.from_numpy(np.asarray(features, np.float32))).numpy()


@pytest.mark.parametrize("scale", [0.1, 1, 30])
def test_features_elsewhere_are_strange(fitted, scale):
    inside = scores(fitted[0], drawn(300))
    outside = scores(fitted[0], scale * RNG.normal(size=(300, 16)))
    assert (outside[:, None] > inside[None]).mean() > 0.95


def test_held_out_scores_are_those_of_new_examples(fitted):
    module, held_out = fitted
    assert (len(held_out), held_out.mean(), np.quantile(held_out, 0.98)) == (400, pytest.approx(0), pytest.approx(1))
    assert np.mean(scores(module, drawn(1000)) <= np.quantile(held_out, 0.95)) == pytest.approx(0.95, abs=0.03)


def test_prototypes_are_few():
    module, held_out = fit_feature_distance(drawn(12_000))
    assert module.prototypes.shape == (MAX_PROTOTYPES, 16) and len(held_out) <= 10_000


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_examples_are_enough(count):
    module, held_out = fit_feature_distance(drawn(count))
    assert len(held_out) == count
    assert np.isfinite(scores(module, [*drawn(3), np.zeros(16)])).all() and np.isfinite(held_out).all()


def test_graph_agrees_with_torch(fitted, tmp_path):
    one, many = ({"features": drawn(count)} for count in (1, 20))
    onnx.export(fitted[0], tmp_path / "a.onnx", trace=one, check=many, output="score")
    np.testing.assert_allclose(
        onnx.runner(tmp_path / "a.onnx")(many), scores(fitted[0], many["features"]), rtol=1e-3, atol=1e-4
    )


def test_fit_is_deterministic():
    features = drawn(200)
    first, second = fit_feature_distance(features), fit_feature_distance(features)
    assert torch.equal(first[0].prototypes, second[0].prototypes) and first[1].tobytes() == second[1].tobytes()


def test_threads_do_not_change_bits():
    features = np.random.default_rng(0).standard_normal((400, 1280)).astype(np.float32)
    fitted = []
    for threads in (1, 2):
        with ThreadpoolController().limit(limits=threads, user_api="blas"):
            fitted.append(fit_feature_distance(features)[1])
    assert np.array_equal(*fitted)
