import math
from contextlib import closing

import pyarrow as pa
import pytest
import torch
from torch import nn

from flowerml.core.errors import DivergedError
from flowerml.data.encodings import Encoded
from flowerml.engine.feed_forward import FeatureBatches, FeedForward
from flowerml.engine.fit import Trainer, evaluate
from flowerml.tasks.image.networks import feature_batches

SECTION = {
    "learning_rate": 0.1,
    "batch_size": 16,
    "epochs": 5,
    "optimizer": "adamw",
    "weight_decay": 0.0,
    "schedule": "constant",
    "label_smoothing": 0.0,
    "patience": None,
    "class_weights": None,
}


def batches(
    *,
    train: tuple[int, int] = (40, 40),
    valid: tuple[int, int] = (20, 20),
    apart: float = 3.0,
    valid_apart: float | None = None,
) -> FeatureBatches:
    """Return two classes of points around x = -apart and x = apart; `train` and `valid` are the counts per class."""
    torch.manual_seed(0)
    splits = (("train", train, apart), ("valid", valid, apart if valid_apart is None else valid_apart))
    rows = [(split, label, x) for split, count, x in splits for label in (0, 1) for _ in range(count[label])]
    points = torch.randn(len(rows), 2) + torch.tensor([[x * (2 * label - 1), 0.0] for _, label, x in rows])
    columns = {
        "split": [split for split, _, _ in rows],
        "label": ["ab"[label] for _, label, _ in rows],
        "features": pa.array([[point] for point in points.tolist()], type=pa.list_(pa.list_(pa.float32(), 2))),
    }
    return feature_batches(Encoded(pa.table(columns)), ("a", "b"))


def head(seed: int = 0) -> FeedForward:
    torch.manual_seed(seed)
    return FeedForward(2, 2, hidden_units=[4], dropout=0.1)


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()


def test_separable_classes_are_learned():
    network, data = head(), batches()
    epochs = list(Trainer(network, data, **SECTION))
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5]
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert evaluate(network, data.valid(batch_size=7))[1] == 1.0


def test_evaluate_any_batch_size_agrees():
    network, data = head(), batches(apart=0.5)
    assert evaluate(network, data.valid(batch_size=7)) == pytest.approx(evaluate(network, data.valid(batch_size=40)))


def test_seed_decides_every_bit():
    runs = []
    for seed in (3, 3, 4):
        network, data = head(seed), batches()
        torch.manual_seed(seed)
        list(Trainer(network, data, **SECTION))
        runs.append(weights(network))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("last", [2, 6, None])
def test_best_weights_are_restored(last):
    # The validation points have swapped sides, so every further epoch makes them worse.
    network, data = head(), batches(valid_apart=-3.0)
    seen = []
    with closing(Trainer(network, data, **SECTION | {"epochs": 8})) as epochs:
        for epoch in epochs:
            seen.append((epoch.valid_accuracy, -epoch.valid_loss, weights(network)))
            if epoch.number == last:
                break
    best = max(seen, key=lambda row: row[:2])
    assert torch.equal(weights(network), best[2])
    assert not torch.equal(weights(network), seen[-1][2])
    assert not network.training


def test_patience_stops_early():
    network, data = head(), batches(apart=0.3)
    numbers = [epoch.number for epoch in Trainer(network, data, **SECTION | {"epochs": 50, "patience": 3})]
    epochs = list(Trainer(head(), batches(apart=0.3), **SECTION | {"epochs": numbers[-1]}))
    best = max(epochs, key=lambda epoch: (epoch.valid_accuracy, -epoch.valid_loss))
    assert numbers[-1] == best.number + 3 < 50


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_keeps_best_weights(value):
    network, data = head(), batches()
    epochs = Trainer(network, data, **SECTION)
    next(epochs)
    good = weights(network)
    nn.init.constant_(network[0].weight, value)
    with pytest.raises(DivergedError, match=r"not finite in epoch 2 \(.*\); lower learning_rate \(0\.1\)"):
        next(epochs)
    assert torch.equal(weights(network), good)


def test_balanced_weights_help_rare_class():
    recalls = {}
    for class_weights in (None, "balanced"):
        network, data = head(), batches(train=(190, 10), valid=(50, 50), apart=1.0)
        list(Trainer(network, data, **SECTION | {"class_weights": class_weights, "learning_rate": 0.01, "epochs": 8}))
        logits = torch.cat([network(*inputs) for inputs, _ in data.valid(batch_size=100)])
        recalls[class_weights] = logits[50:].argmax(1).float().mean().item()
    assert recalls[None] < 0.3 < 0.5 < recalls["balanced"]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_every_optimizer_and_schedule(optimizer, schedule):
    network, data = head(), batches()
    epochs = list(
        Trainer(network, data, **SECTION | {"optimizer": optimizer, "schedule": schedule, "weight_decay": 0.01})
    )
    assert epochs[-1].valid_accuracy == 1.0


def test_schedule_sets_learning_rate():
    rates = {}
    for schedule in ("constant", "cosine", "one_cycle"):
        rates[schedule] = [
            epoch.learning_rate for epoch in Trainer(head(), batches(), **SECTION | {"schedule": schedule})
        ]
    assert rates["constant"] == [0.1] * 5
    assert rates["cosine"][0] == 0.1 and rates["cosine"] == sorted(rates["cosine"], reverse=True)
    assert rates["one_cycle"][0] == pytest.approx(0.1 / 25) and max(rates["one_cycle"]) > 0.09


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("batch_size", [1, 7, 80, 1000])
def test_schedule_fits_any_batch_size(schedule, batch_size):
    section = SECTION | {"schedule": schedule, "batch_size": batch_size, "epochs": 1}
    assert len(list(Trainer(head(), batches(train=(5, 4), valid=(1, 1)), **section))) == 1


@pytest.mark.parametrize("change", [{"weight_decay": 1.0}, {"label_smoothing": 0.3}])
def test_regularization_shrinks_weights(change):
    free, regularized = head(), head()
    list(Trainer(free, batches(), **SECTION))
    list(Trainer(regularized, batches(), **SECTION | change))
    assert weights(regularized).norm() < 0.8 * weights(free).norm()


def test_frozen_weights_stay():
    network = head()
    network[0].requires_grad_(False)
    before = network[0].weight.clone()
    list(Trainer(network, batches(), **SECTION))
    assert torch.equal(network[0].weight, before)


def test_epoch_draws_one_view_per_picture():
    kind = pa.list_(pa.list_(pa.float32(), 1))
    views = [[[10.0], [11.0]], [[20.0]], [[30.0], [31.0], [32.0]], [[40.0]]]
    columns = {
        "split": ["train"] * 3 + ["valid"],
        "label": ["a", "b", "a", "b"],
        "features": pa.array(views, type=kind),
    }
    data = feature_batches(Encoded(pa.table(columns)), ("a", "b"))
    torch.manual_seed(0)
    epochs = [torch.cat([inputs[0] for inputs, _ in data.train(batch_size=2)]).flatten().tolist() for _ in range(50)]
    assert {tuple(sorted(int(value) // 10 for value in epoch)) for epoch in epochs} == {(1, 2, 3)}
    assert {value for epoch in epochs for value in epoch} == {10, 11, 20, 30, 31, 32}
