"""The head on features of a pretrained encoder, and its blend with n-grams."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from flowerml.config.defaults import SHIPPED_PARAMS
from flowerml.core.errors import ParamsError
from flowerml.data.encodings import Encoded
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tasks.text.networks import Texts, build_network
from flowerml.tasks.text.networks.blend import HeadBlend, held_out_weights
from flowerml.tasks.text.networks.folds import HeldOut
from flowerml.tasks.text.networks.head import Head, HeadFit, HiddenHead, fit_head
from flowerml.tasks.text.networks.ngrams import NGrams

TRAIN = load_pipeline("texts", SHIPPED_PARAMS).train


def section(**changes: object):
    return TRAIN.model_copy(update={"order": 1, **changes})


def encoded(
    *, train: int = 24, valid: int = 6, apart: float = 1.0, words: bool = True, features: bool = True
) -> Encoded:
    """Return texts of two classes in turn; their features differ in one of eight directions, their words in one."""
    rng = np.random.default_rng(0)
    targets = np.arange(train + valid) % 2
    vectors = rng.standard_normal((len(targets), 8)).astype(np.float32)
    vectors[:, 3] += apart * (2 * targets - 1)
    texts = [
        [int(rng.integers(1, 9)), 100 + int(target) if words else 50, int(rng.integers(1, 9))] for target in targets
    ]
    columns = {
        "split": ["train"] * train + ["valid"] * valid,
        "label": ["ab"[target] for target in targets],
        "stems": pa.array([[2, 3]] * len(targets), pa.list_(pa.int32())),
        "words": pa.array(texts, pa.list_(pa.int32())),
    }
    if features:
        columns["features"] = pa.array([[row] for row in vectors.tolist()], pa.list_(pa.list_(pa.float32(), 8)))
    return Encoded(pa.table(columns))


def trained(table: Encoded, **changes: object):
    """Return a trained network and its last epoch."""
    network, training = build_network(Texts(table, ("a", "b"), codes=5), section(**changes))
    epochs = list(training)
    training.close()
    return network, epochs[-1]


def test_the_network_follows_the_encoder():
    assert isinstance(trained(encoded(), network=None)[0], HeadBlend)
    assert isinstance(trained(encoded(features=False), network=None)[0], NGrams)
    assert isinstance(trained(encoded(), network="head")[0], Head)
    assert isinstance(trained(encoded(), network="head", hidden_units=[4], epochs=1)[0], HiddenHead)


def test_a_head_needs_an_encoder():
    with pytest.raises(ParamsError, match=r"head reads a pretrained encoder; name one in encode\.backbone"):
        trained(encoded(features=False), network="head")


def test_a_blend_has_a_linear_head():
    with pytest.raises(ParamsError, match=r"train\.hidden_units: n-grams are blended with a linear head"):
        trained(encoded(), network="blend", hidden_units=[4])


def test_a_head_learns_what_features_tell():
    network, epoch = trained(encoded(apart=4.0), network="head")
    assert epoch.valid_accuracy > 0.9
    weights = network.output.weight.detach()
    assert (weights[1] - weights[0]).abs().argmax() == 3


def test_the_network_gives_the_logits_of_its_fit():
    table = encoded()
    data = Texts(table, ("a", "b"), codes=5)
    network, _ = trained(table, network="head")
    rows = np.arange(6)
    logits = network(torch.from_numpy(data.features["valid"])).detach().numpy()
    np.testing.assert_allclose(logits, data.fitted_head(section()).model("valid", rows), atol=1e-5)


def test_validation_is_that_of_all_held_out_texts():
    data = Texts(encoded(), ("a", "b"), codes=5)
    assert len(data.fitted_head(section(folds=5)).targets) == 30
    assert len(data.fitted_head(section(folds=0)).targets) == 6


def test_frequencies_do_not_outweigh_features():
    rng = np.random.default_rng(1)
    targets = np.array([0] * 9 + [1] * 5)
    features = rng.standard_normal((14, 300)).astype(np.float32)
    features[:, :40] += 0.8 * (2 * targets[:, None] - 1)
    fit = HeadFit({"train": features, "valid": features[:2]}, targets, 2, balanced=False)
    model = fit_head(fit, targets[:2], penalty=0.01, folds=5).model
    assert (model("train", np.arange(14)).argmax(axis=1) == targets).all()


def test_a_rare_class_may_be_missing_from_a_fold():
    targets = np.array([0, 1] * 6 + [2])
    features = np.eye(3, 6, dtype=np.float32)[targets]
    fit = HeadFit({"train": features, "valid": features[:3]}, targets, 3, balanced=True)
    held_out = fit_head(fit, targets[:3], penalty=None, folds=4)
    assert np.isfinite(held_out.margins).all()
    assert (held_out.model("train", np.arange(13)).argmax(axis=1) == targets).all()


def test_equal_parameters_give_equal_bits():
    first, second = (trained(encoded(), network="blend")[0].state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_part_that_tells_nothing_is_left_out():
    rng = np.random.default_rng(0)
    targets = np.arange(16) % 2
    good = np.stack([1.0 - 2 * targets, 2.0 * targets - 1], axis=1) + rng.normal(0, 0.3, (16, 2))
    noise = rng.normal((0.5, 0.0), 0.05, (16, 2))
    parts = [HeldOut(None, logits, targets) for logits in (good, noise)]
    head, ngrams = held_out_weights(*parts)
    assert ngrams < 0.1 * head
    ngrams, head = held_out_weights(*parts[::-1])
    assert ngrams < 0.1 * head
    assert held_out_weights(parts[1], parts[1]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("apart", "words"), [(0.0, True), (4.0, False)], ids=["only words", "only features"])
def test_a_blend_is_as_good_as_its_better_part(apart, words):
    _, epoch = trained(encoded(train=60, valid=20, apart=apart, words=words), network="blend")
    assert epoch.valid_accuracy >= 0.97


def test_a_blend_is_resumed_from_its_state():
    data = Texts(encoded(), ("a", "b"), codes=5)
    network, training = build_network(data, section(network="blend"))
    list(training)
    again, resumed = build_network(data, section(network="blend"))
    resumed.resume(training.state())
    assert list(resumed) == []
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


def test_penalties_and_weights_of_a_blend_are_recorded():
    network, epoch = trained(encoded(), network="blend", penalty=0.5)
    weights = dict(zip(("weight_head", "weight_ngrams"), network.weights.tolist(), strict=True))
    assert epoch.chosen == pytest.approx({"penalty_head": 0.5, "penalty_ngrams": 0.5, **weights})
