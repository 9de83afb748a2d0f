"""What a training may do beyond plain gradient descent: each part does what it says, and all of it resumes."""

import copy
import math
from itertools import islice

import pytest
import torch
from torch import nn

from flowerml.engine import devices
from flowerml.engine.averaging import MovingAverage
from flowerml.engine.devices import moved, on_device
from flowerml.engine.feed_forward import FeatureBatches, Views
from flowerml.engine.fit import Trainer, evaluate
from flowerml.engine.mixup import Mixup
from flowerml.engine.optimizers import Group
from flowerml.engine.recipe import Recipe
from tests.engine.test_fit import SECTION, batches, head, weights

PLAIN = SECTION | {"optimizer": "sgd", "learning_rate": 0.05}


def trained(recipe: Recipe, *, data=None, **values) -> tuple[nn.Module, list]:
    """Return a head and the epochs of its training, which are always the same."""
    network = head()
    network.eval()
    torch.manual_seed(1)
    return network, list(Trainer(network, data or batches(apart=0.5), **PLAIN | values, recipe=recipe))


def groups(network: nn.Module, share: float) -> list[Group]:
    return [Group([*network[3].parameters()]), Group([*network[0].parameters()], share=share, body=True)]


def test_accumulated_batches_are_one_step():
    flat = {"epochs": 2, "patience": None}
    networks = []
    for batch_size, accumulate in ((16, 1), (8, 2), (4, 4)):
        network = nn.Sequential(nn.Linear(2, 2))
        nn.init.constant_(network[0].weight, 0.1)
        nn.init.zeros_(network[0].bias)
        torch.manual_seed(1)
        values = PLAIN | flat | {"batch_size": batch_size}
        # 44 examples: the last step of an epoch has 12.
        data = batches(train=(22, 22), apart=0.5)
        torch.manual_seed(1)
        list(Trainer(network, data, **values, recipe=Recipe(accumulate=accumulate)))
        networks.append(weights(network))
    assert torch.allclose(networks[0], networks[1], atol=1e-6) and torch.allclose(networks[0], networks[2], atol=1e-6)


def test_groups_train_at_their_rates():
    moves = {}
    for share in (1.0, 0.01):
        network = head()
        before = copy.deepcopy(network)
        torch.manual_seed(1)
        list(Trainer(network, batches(), **PLAIN | {"epochs": 1}, recipe=Recipe(groups=groups(network, share))))
        moves[share] = (network[0].weight - before[0].weight).norm().item()
    assert 0 < moves[0.01] < 0.05 * moves[1.0]


def test_one_group_of_all_weights_changes_no_bit():
    network, _ = trained(Recipe())
    other = head()
    torch.manual_seed(1)
    whole = [Group([*other.parameters()])]
    list(Trainer(other, batches(apart=0.5), **PLAIN, recipe=Recipe(groups=whole)))
    assert torch.equal(weights(network), weights(other))


def test_body_stays_in_its_first_epochs():
    network = head()
    before, moved_in = network[0].weight.clone(), []
    training = Trainer(network, batches(), **PLAIN, recipe=Recipe(groups=groups(network, 1.0), freeze_epochs=2))
    for epoch in islice(training, 4):
        moved_in.append((epoch.number, not torch.equal(network[0].weight, before)))
    assert moved_in == [(1, False), (2, False), (3, True), (4, True)]


def test_groups_without_decay_keep_their_norm():
    norms = {}
    for decays in (True, False):
        network = head()
        nn.init.constant_(network[3].weight, 1.0)
        values = SECTION | {"weight_decay": 5.0, "learning_rate": 0.01, "epochs": 3}
        list(
            Trainer(network, batches(), **values, recipe=Recipe(groups=[Group([*network.parameters()], decays=decays)]))
        )
        norms[decays] = weights(network).norm().item()
    assert norms[True] < 0.8 * norms[False]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_warmup_raises_the_rate(schedule):
    # Five steps an epoch.
    _, plain = trained(Recipe(), schedule=schedule, epochs=6)
    _, warm = trained(Recipe(warmup_epochs=2.0), schedule=schedule, epochs=6)
    rates = [epoch.learning_rate for epoch in warm]
    assert rates[0] < 0.2 * 0.05 and rates[0] < rates[1] < rates[2] == pytest.approx(0.05, rel=0.1)
    if schedule == "constant":
        assert rates[2:] == [0.05] * 4 and plain[0].learning_rate == 0.05
    else:
        assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] < 0.02


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_warmup_longer_than_training(schedule):
    _, epochs = trained(Recipe(warmup_epochs=9.0), schedule=schedule, epochs=1)
    assert math.isfinite(epochs[0].train_loss)


def test_averaged_weights_are_those_that_count():
    network, plain = trained(Recipe(), epochs=3)
    averaged, epochs = trained(Recipe(ema=0.98), epochs=3)
    data = batches(apart=0.5)
    assert [epoch.train_loss for epoch in epochs] == [epoch.train_loss for epoch in plain]
    best = max(epochs, key=lambda epoch: (epoch.valid_accuracy, -epoch.valid_loss))
    assert evaluate(averaged, data.valid(batch_size=16)) == pytest.approx((best.valid_loss, best.valid_accuracy))
    assert not torch.equal(weights(network), weights(averaged))


def test_average_covers_statistics():
    network = nn.Sequential(nn.BatchNorm1d(2))
    average = MovingAverage(network, decay=0.5)
    network.train()(torch.full((4, 2), 10.0))
    average.update()
    with average.applied():
        assert 0 < network[0].running_mean[0] < 1
    assert network[0].running_mean[0] == 1.0


def test_average_starts_from_loaded_weights():
    network = head()
    training = Trainer(network, batches(), **PLAIN | {"learning_rate": 1e-12, "epochs": 1}, recipe=Recipe(ema=0.99))
    other = head(seed=9)
    network.load_state_dict(other.state_dict())
    list(training)
    assert torch.allclose(weights(network), weights(other), atol=1e-6)


def test_clipped_gradients_take_small_steps():
    network, values = head(), PLAIN | {"learning_rate": 1.0, "epochs": 1, "batch_size": 80}
    before = weights(network)
    with torch.no_grad():
        network[0].weight.mul_(50)  # and so are the gradients behind it
    start = weights(network)
    list(Trainer(network, batches(apart=-3.0), **values, recipe=Recipe(clip_norm=0.01)))
    # Nesterov momentum makes of a gradient g a step of 1.9 g.
    assert 0 < (weights(network) - start).norm() < 0.0191 and not torch.equal(before, start)


def test_mixup_mixes_inputs_and_losses():
    mixup = Mixup(0.8)
    logits, targets = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    criterion = nn.CrossEntropyLoss()
    expected = 0.8 * criterion(logits, targets) + 0.2 * criterion(logits, torch.tensor([1, 0]))
    assert mixup.loss(criterion, logits, targets) == pytest.approx(expected.item())
    (mixed,) = mixup.inputs((torch.tensor([[0.0], [10.0]]),))
    assert mixed.flatten().tolist() == pytest.approx([2.0, 8.0])


def test_mixup_shares_come_from_generator():
    torch.manual_seed(4)
    shares = [Mixup.draw(0.3).share for _ in range(200)]
    torch.manual_seed(4)
    assert Mixup.draw(0.3).share == shares[0]
    assert all(0.5 <= share <= 1 for share in shares) and len(set(shares)) > 150


def test_mixup_raises_training_loss():
    _, plain = trained(Recipe(), data=batches(), epochs=4)
    _, mixed = trained(Recipe(mixup=0.5), data=batches(), epochs=4)
    assert mixed[-1].train_loss > 2 * plain[-1].train_loss and mixed[-1].valid_accuracy == 1.0


def test_bfloat16_trains_float32_weights():
    network, epochs = trained(Recipe(precision="bfloat16"), data=batches())
    exact, _ = trained(Recipe(), data=batches())
    assert epochs[-1].valid_accuracy == 1.0
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert not torch.equal(weights(network), weights(exact))


def test_without_validation_the_last_epoch_counts():
    full = batches(apart=0.5)
    empty = Views(full.features["valid"].values[:0], full.features["valid"].offsets[:1])
    features = {"train": full.features["train"], "valid": empty}
    targets = {"train": full.targets["train"].numpy(), "valid": full.targets["valid"].numpy()[:0]}
    network = head()
    training = Trainer(network, FeatureBatches(features, targets, classes=2), **PLAIN | {"patience": 1})
    seen = [(epoch.valid_loss, epoch.valid_accuracy, weights(network)) for epoch in training]
    assert len(seen) == PLAIN["epochs"] and all(math.isnan(loss) and math.isnan(hits) for loss, hits, _ in seen)
    assert torch.equal(weights(network), seen[-1][2])


def test_batches_of_cpu_are_pinned_for_gpu(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: calls.append("pin") or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, target, **options: calls.append((target, options)) or tensor)
    gpu = torch.device("cuda")
    moved(torch.zeros(1), gpu)
    assert calls == ["pin", (gpu, {"non_blocking": True})]
    calls.clear()
    moved(torch.zeros(1), torch.device("cpu"))
    assert "pin" not in calls


def test_batches_move_to_the_device(monkeypatch):
    monkeypatch.setattr(devices, "device", lambda: torch.device("meta"))
    ((inputs, targets),) = on_device([((torch.zeros(2, 3), torch.zeros(2)), torch.zeros(2))])
    assert {tensor.device.type for tensor in (*inputs, targets)} == {"meta"}


@pytest.mark.parametrize(("fast", "rest"), [(True, "in bfloat16"), (False, "float32 is faster)")])
def test_slow_bfloat16_is_told(monkeypatch, fast, rest):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast, "avx512_f": True})
    monkeypatch.setattr(devices, "device", lambda: torch.device("cpu"))
    message = devices.describe("bfloat16")
    assert message.startswith("a CPU with") and message.endswith(rest)
