"""Fine-tuned networks: what is trained, from what, and on which views of which pictures."""

import random
from collections import OrderedDict
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from flowerml.core.errors import ParamsError
from flowerml.engine.feed_forward import FeatureBatches, FeedForward, Views
from flowerml.search.checkpoint import Checkpoint
from flowerml.search.study import Search
from flowerml.tasks.image import networks
from flowerml.tasks.image.encoder.pictures import Transform
from flowerml.tasks.image.encoder.preprocessing import Preprocessing
from flowerml.tasks.image.networks import Ensemble, FineTuned
from flowerml.tasks.image.networks.pictures import PictureData
from flowerml.tasks.image.networks.views import training_view
from flowerml.tasks.image.sections import TrainAugment, problems
from flowerml.tasks.pipelines import load_pipeline

SIZE, CACHED = 12, 16
FILL = (127, 127, 127)


def block(channels: int, width: int, stride: int) -> nn.Sequential:
    """Return a convolution, a depthwise one, and their batch norms."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            bn1=nn.BatchNorm2d(width),
            act=nn.ReLU(),
            depthwise=nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False),
            bn2=nn.BatchNorm2d(width),
        )
    )


def tiny() -> nn.Module:
    """Return a network of two blocks with features [B, 6] and statistics as after a training."""
    torch.manual_seed(5)
    layers = {"stem": block(3, 4, 2), "last": block(4, 6, 2), "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    network = nn.Sequential(OrderedDict(layers))
    with torch.no_grad():
        for _ in range(20):
            network.train()(torch.randn(8, 3, SIZE, SIZE))
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Part:
    """What an encoder says of a backbone."""

    module: nn.Module
    trained: frozenset[str]
    groups: list[list[str]]
    columns: slice


@dataclass(frozen=True)
class TinyEncoder:
    """An encoder of a tiny backbone, whose last block is trained."""

    module: nn.Module
    cached: str = "pictures"
    activations: tuple[int, int, int] | None = None
    preprocessing = Preprocessing(Transform(CACHED, SIZE, "bilinear", mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2)))

    def trainable(self, name: str | None) -> Part:
        names = [name for name, _ in self.module.named_parameters()]
        groups = [[name for name in names if name.startswith(block)] for block in ("stem", "last")]
        return Part(self.module, frozenset(groups[1]), groups, slice(None))


def pictures(count: int, size: int, *, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return noisy pictures of two classes: light at the left, and light at the top."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    rows = []
    for label in labels:
        picture = rng.integers(0, 120, (size, size, 3), dtype=np.uint8)
        picture[tuple([slice(None)] * label + [slice(0, size // 2)])] += 100
        rows.append(picture)
    return rows, labels.astype(np.int64)


def data(*, train: int = 24, valid: int = 10) -> PictureData:
    encoder = TinyEncoder(tiny())
    rows, targets = {}, {}
    rows["train"], targets["train"] = pictures(train, CACHED, seed=1)
    rows["valid"], targets["valid"] = pictures(valid, SIZE, seed=2)
    whole = PictureData(encoder, None, rows, [str(number) for number in range(train)], train, None)
    features = {}
    for split, labels in targets.items():
        whole = replace(whole, features=_Targets(targets))
        plain = whole.plain(split, torch.arange(len(labels)), batch_size=7)
        with torch.inference_mode():
            values = torch.cat([encoder.module(*inputs) for inputs, _ in plain]).clone()
        features[split] = Views(values, torch.arange(len(labels) + 1))
    return replace(whole, features=FeatureBatches(features, targets, classes=2))


class _Targets:
    def __init__(self, targets: dict[str, np.ndarray]) -> None:
        self.targets = {split: torch.from_numpy(labels) for split, labels in targets.items()}


def section(**values):
    flip = TrainAugment(flip=False, smallest_crop=0.8)
    values = {"epochs": 2, "batch_size": 8, "threads": 1, "learning_rate": 0.01, "augment": flip.model_dump(), **values}
    return load_pipeline("flowers").train.with_values(values)


def changed(network: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


def start(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_one_example_alone_has_no_batch_statistics():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten())
    trained = {"1.weight", "1.bias"}
    network = FineTuned(pooled, nn.Linear(3, 2), trained=trained, reads="image", batch_norm="trained").train()
    before = start(network)
    assert network(torch.randn(1, 3, 4, 4)).shape == (1, 2)  # torch refuses to normalize one value of each channel
    assert changed(network, before) == set() and network.backbone[1].training
    network(torch.randn(2, 3, 4, 4))
    assert "backbone.1.running_mean" in changed(network, before)


def test_only_last_block_and_head_are_trained():
    network, training = networks.build_network(data(), section(train_depthwise=True))
    before = start(network)
    list(training)
    weights = {"conv.weight", "bn1.weight", "bn1.bias", "depthwise.weight", "bn2.weight", "bn2.bias"}
    assert changed(network, before) == {f"backbone.last.{name}" for name in weights} | {"head.1.weight", "head.1.bias"}


def test_statistics_of_batches_do_not_drift():
    network, training = networks.build_network(data(), section(batch_norm="trained"))
    before = start(network)
    list(training)
    drifted = {name for name in changed(network, before) if "running" in name or "num_batches" in name}
    assert drifted == {
        f"backbone.last.{norm}.{name}"
        for norm in ("bn1", "bn2")
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    network, training = networks.build_network(data(), section())
    before = start(network)
    list(training)
    assert not {name for name in changed(network, before) if "running" in name or "num_batches" in name}


@pytest.mark.parametrize("choice", [None, False])
def test_depthwise_kernels_stay(choice):
    network, training = networks.build_network(data(), section(train_depthwise=choice))
    before = start(network)
    list(training)
    assert not {name for name in changed(network, before) if "depthwise" in name}


def test_frozen_epochs_train_the_head_alone():
    network, training = networks.build_network(data(), section(epochs=3, freeze_epochs=2, batch_norm="trained"))
    before = start(network)
    seen = []
    for _ in training:
        seen.append({name for name in changed(network, before) if name.startswith("backbone")})
    assert seen[0] == seen[1] == set() and seen[2]


def test_fine_tune_false_trains_todays_head():
    here, values = data(), section(fine_tune=False)
    network, training = networks.build_network(here, values)
    list(training)
    plain, plain_training = networks.build_network(here.features, values)
    list(plain_training)
    assert isinstance(network, FeedForward)
    assert changed(network, plain.state_dict()) == set()


def test_head_starts_from_probe():
    here, starts = data(), {}
    for head_start in ("probe", "random"):
        network, training = networks.build_network(here, section(head_start=head_start, learning_rate=1e-9, epochs=1))
        before = network.head[1].weight.clone()
        list(training)
        starts[head_start] = before, network.head[1].weight
    probe = here.probes.weights(network.head, here.features, section())["1.weight"]
    assert torch.allclose(starts["probe"][1], probe, atol=1e-6)
    assert torch.allclose(*starts["random"], atol=1e-6) and not torch.allclose(*starts["probe"], atol=1e-3)


def test_probe_leaves_generators_alone():
    here = data()
    network, _ = networks.build_network(here, section())
    torch.manual_seed(3)
    here.probes.weights(network.head, here.features, section())
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


def test_loaded_weights_need_no_probe():
    network, training = networks.build_network(data(), section(learning_rate=1e-9, epochs=1))
    weights = {"1.weight": torch.full((2, 6), 0.25), "1.bias": torch.zeros(2)}
    network.load_state_dict(weights)
    list(training)
    assert torch.allclose(network.head[1].weight, weights["1.weight"], atol=1e-6)


def test_learning_rates_fall_with_depth():
    network, _ = networks.build_network(data(), section())
    part = TinyEncoder(tiny()).trainable(None)
    everything = frozenset(name for names in part.groups for name in names)
    whole = FineTuned(part.module, network.head, trained=everything, reads="image", train_depthwise=True)
    groups = whole.groups(part.groups, share=0.5, layer_decay=0.8)
    names = {id(parameter): name for name, parameter in whole.named_parameters()}
    shares = {names[id(parameter)]: group.share for group in groups for parameter in group.parameters}
    assert set(shares) == set(names.values())
    assert shares["head.1.weight"] == 1.0
    assert shares["backbone.last.conv.weight"] == shares["backbone.last.bn2.bias"] == 0.5
    assert shares["backbone.stem.conv.weight"] == pytest.approx(0.4)
    decays = {names[id(parameter)]: group.decays for group in groups for parameter in group.parameters}
    assert decays["backbone.last.conv.weight"] and not decays["backbone.last.bn1.weight"]
    assert not decays["head.1.bias"]


def test_training_resumes_to_the_bit(tmp_path):
    trial = next(iter(Search(section().with_values({"search": {"trials": 1, "prune": False, "space": {}}}))))
    values = section(epochs=3, dropout=0.2, ema=0.9, mixup=0.4, clip_norm=1.0, accumulate=2, warmup_epochs=0.5)
    whole, training = networks.build_network(data(), values)
    expected = [epoch.valid_loss for epoch in training]
    _, first = networks.build_network(data(), values)
    trial.epochs = [*islice(first, 1)]
    seen = [epoch.valid_loss for epoch in trial.epochs]
    # Read again, tensors lie in memory as files have them and no longer channels last.
    Checkpoint(tmp_path, "key").write(trial, first)
    state = Checkpoint(tmp_path, "key").running(trial).state
    network, rest = networks.build_network(data(), values)
    rest.resume(state)
    seen += [epoch.valid_loss for epoch in rest]
    assert seen == expected
    assert changed(network, whole.state_dict()) == set()


def test_views_do_not_depend_on_threads():
    drawn = []
    for threads in (1, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            batches = networks._batches(data(), None, section())
            torch.manual_seed(0)
            drawn.append(torch.cat([inputs[0] for inputs, _ in batches.train(batch_size=5)]))
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*drawn)


def test_heads_know_the_recipe_too():
    losses = []
    for values in ({}, {"mixup": 0.5}, {"ema": 0.9}, {"warmup_epochs": 1.0}, {"accumulate": 2}, {"clip_norm": 0.01}):
        _, training = networks.build_network(data().features, section(**values))
        losses.append([epoch.valid_loss for epoch in training])
    assert all(other != losses[0] for other in losses[1:])


def test_only_a_few_batches_are_in_memory():
    here, read = data(train=60), []

    class Counting(list):
        def __getitem__(self, number):
            read.append(number)
            return super().__getitem__(number)

    here = replace(here, rows={**here.rows, "train": Counting(here.rows["train"])})
    batches = networks._batches(here, None, section()).train(batch_size=3)
    next(batches)
    assert len(read) <= 3 * (torch.get_num_threads() + 2)
    batches.close()


def test_each_epoch_has_new_views():
    batches = networks._batches(data(), None, section())
    torch.manual_seed(0)
    first, second = (sorted(inputs[0].sum().item() for inputs, _ in batches.train(batch_size=1)) for _ in range(2))
    assert first != second


def test_validation_pictures_are_those_served():
    here = data()
    ((inputs, targets),) = networks._batches(here, None, section()).valid(batch_size=50)
    assert torch.equal(targets, networks.valid_targets(here))
    transform = TinyEncoder.preprocessing.to_pixels
    from PIL import Image

    expected = np.stack([transform.normalize(Image.fromarray(picture)) for picture in here.rows["valid"]])
    assert np.array_equal(inputs[0].numpy(), expected)


def test_training_size_is_that_of_train():
    batches = networks._batches(data(), networks.build_network(data(), section())[0], section(size=8))
    inputs, _ = next(batches.train(batch_size=3))
    assert inputs[0].shape == (3, 3, 8, 8)


def test_unfit_training_size_is_told():
    network = FineTuned(nn.Linear(SIZE, 2), nn.Flatten(), trained=set(), reads="image")
    with pytest.raises(ParamsError, match=r"train\.size: the backbone takes no pictures of 8 x 8 .*set it to null"):
        networks._batches(data(), network, section(size=8))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"freeze_epochs": 2}, r"train\.freeze_epochs: .*less than train\.epochs \(2\), found 2, .*is never trained"),
        ({"warmup_epochs": 2.5}, r"train\.warmup_epochs: .*less than train\.epochs \(2\), found 2\.5, .*no step has"),
        ({"warmup_epochs": 2.0, "fine_tune": False}, r"train\.warmup_epochs: .*found 2, "),
    ],
)
def test_a_part_of_a_training_is_not_all_of_it(values, error):
    with pytest.raises(ParamsError, match=error):
        networks.build_network(data(), section(epochs=2, **values))


def test_heads_have_no_backbone_that_stays():
    networks.build_network(data(), section(epochs=2, freeze_epochs=2, fine_tune=False))


@pytest.mark.parametrize(
    "change", [{"rotation": 40.0}, {"vertical_flip": True}, {"color": 0.5}, {"erase": 1.0}, {"randaugment": 9.0}]
)
def test_transform_changes_some_views_and_repeats(change):
    picture = pictures(1, CACHED, seed=4)[0][0]

    def views(section):
        seeds = range(8)
        return [training_view(picture, section, size=(9, 7), fill=FILL, rng=random.Random(seed)) for seed in seeds]

    plain, other = TrainAugment(), TrainAugment(**change)
    assert all(view.shape == (9, 7, 3) for view in views(other))
    assert np.array_equal(views(other), views(other)) and not np.array_equal(views(plain), views(other))


def test_refit_trains_on_both_splits():
    both = networks.with_valid(data())
    network, training = networks.build_network(both, section())
    epochs = list(training)
    assert int(both.features.train_counts.sum()) == 34 == len(both.digests)
    assert all(np.isnan(epoch.valid_loss) and np.isfinite(epoch.train_loss) for epoch in epochs)
    batches = networks._batches(both, network, section())
    assert sum(len(targets) for _, targets in batches.train(batch_size=8)) == 34
    assert networks.predict_valid(data(), network).shape == (10, 2)


def test_refit_has_a_probe_of_its_own():
    # Else a refit would begin from another head after an interruption.
    here = data()
    network, _ = networks.build_network(here, section())
    alone = here.probes.weights(network.head, here.features, section())
    both = networks.with_valid(here)
    assert not torch.equal(both.probes.weights(network.head, both.features, section())["1.weight"], alone["1.weight"])


def test_detector_is_held_against_validation_pictures():
    here = data()
    network, training = networks.build_network(here, section())
    list(training)
    detector = networks.fit_detector(here, network)
    assert len(detector.held_out) == 10
    ((inputs, _),) = here.plain("valid", torch.arange(10), batch_size=10)
    with torch.inference_mode():
        assert np.allclose(detector.module(network.backbone(*inputs))[0].numpy(), detector.held_out, atol=1e-4)


def test_detector_of_a_refit_is_on_the_scale_of_the_one_before():
    here = data()
    network, training = networks.build_network(here, section(epochs=1))
    list(training)
    before = networks.fit_detector(here, network)
    refitted, training = networks.build_network(networks.with_valid(here), section(epochs=4, learning_rate=0.05))
    list(training)
    after = networks.fit_detector(here, refitted, before)
    scores = []
    for each, trained in ((before, network), (after, refitted)):
        batches = here.plain("train", torch.arange(24), batch_size=24)
        with torch.inference_mode():
            scores.append(torch.cat([each.module.distance(trained.backbone(*inputs)) for inputs, _ in batches]))
    for statistic in (torch.mean, torch.std):
        assert statistic(scores[1]).item() == pytest.approx(statistic(scores[0]).item(), abs=1e-2)
    assert after.held_out is before.held_out


def test_ensemble_averages_probabilities():
    here = data()
    tuned, training = networks.build_network(here, section())
    list(training)
    head, training = networks.build_network(here, section(fine_tune=False))
    list(training)
    ensemble = Ensemble([tuned, head], [3, 1])
    parts = [networks.predict_valid(here, member).softmax(1) for member in (tuned, head)]
    logits = networks.predict_valid(here, ensemble)
    assert torch.allclose(logits.softmax(1), 0.75 * parts[0] + 0.25 * parts[1], atol=1e-6)
    assert networks.fit_detector(here, ensemble).held_out.shape == (10,)


def test_threads_of_heads_and_of_fine_tuning():
    here = data()
    assert networks.suggested_threads(here, section()) is None
    assert networks.suggested_threads(here, section(fine_tune=False)) == 1
    assert networks.suggested_threads(here.features, section()) == 1


def test_cached_activations_are_of_one_size():
    here = load_pipeline("flowers")
    encode = here.encode.model_validate({**here.encode.model_dump(), "trainable_blocks": 1, "cache": "activations"})
    (problem,) = problems(encode, section(size=8))
    assert problem.startswith("train.size: cached activations are of one size")
    assert not list(problems(encode, section()))
