"""Several backbones whose features are concatenated, and networks for pictures of another size."""

from itertools import chain

import numpy as np
import pytest
import torch
from torch import nn

from flowerml.core import files
from flowerml.core.errors import ModelError
from flowerml.engine.feed_forward import FeedForward
from flowerml.tasks.image.encoder import Encoder, Preprocessing
from flowerml.tasks.image.encoder.backbone import architecture, build, build_towers, towers_of
from flowerml.tasks.image.encoder.backbone.towers import Renormalized, Scale
from flowerml.tasks.image.sections import Encode, Limits

# Of mean and standard deviation 0.5, and of ImageNet's.
NAMES = ["tf_efficientnet_lite0", "resnet18"]
SIDE = 64


@pytest.fixture(scope="module")
def encoder():
    section = section_of(backbone=NAMES, trainable_blocks=1)
    return Encoder.fit((), section, Limits.model_construct(pixels=10**6))


def section_of(**changes: object) -> Encode:
    values = {"weights": "none", "size": SIDE, "views": 1, "batch_size": 1, "seed": 0, "augment": None}
    return Encode.model_construct(**{**values, **changes})


def test_each_backbone_sees_pictures_on_its_own_scale(encoder):
    picture = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE)).astype(np.float32) / 255
    features = encoder.frozen(scaled(picture, encoder.preprocessing.to_pixels))
    start = 0
    for name in NAMES:
        alone, transform = build(name, weights="none", seed=0, size=SIDE)
        expected = alone(scaled(picture, transform))
        width = expected.shape[1]
        torch.testing.assert_close(features[:, start : start + width], expected, rtol=1e-4, atol=1e-5)
        start += width
    assert start == encoder.features == sum(encoder.widths)


def scaled(picture: np.ndarray, transform: object) -> torch.Tensor:
    mean, std = (np.array(getattr(transform, name), np.float32)[:, None, None] for name in ("mean", "std"))
    return torch.from_numpy((picture - mean) / std)[None]


def test_an_equal_scale_changes_no_bit():
    scale = Scale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pictures = torch.randn(2, 3, 4, 4)
    assert torch.equal(Renormalized(nn.Flatten(), given=scale, own=scale)(pictures), pictures.flatten(1))


def test_the_largest_size_is_that_of_all():
    names = ["tf_efficientnet_lite0", "tf_efficientnet_lite1"]
    frozen, transform, _ = build_towers(names, weights="none", seed=0)
    assert (transform.size, len(towers_of(frozen))) == ((240, 240), 2)


def test_it_is_saved_and_loaded(encoder, tmp_path):
    encoder.save(tmp_path / "encoder")
    loaded = Encoder.load(tmp_path / "encoder")
    pictures = torch.randn(2, 3, SIDE, SIDE)
    assert loaded == encoder and torch.equal(loaded.frozen(pictures), encoder.frozen(pictures))


@pytest.mark.parametrize("name", [*NAMES, None])
def test_one_or_all_are_trained(encoder, name):
    part = encoder.trainable(name)
    features = part.module(torch.zeros(2, 3, SIDE, SIDE))
    assert features.shape[1] == part.columns.stop - part.columns.start
    torch.testing.assert_close(features, encoder.frozen(torch.zeros(2, 3, SIDE, SIDE))[:, part.columns])
    parameters = dict(part.module.named_parameters())
    assert part.trained < parameters.keys() and sorted(chain.from_iterable(part.groups)) == sorted(parameters)
    trained = [bool(set(group) & part.trained) for group in part.groups if group]
    assert trained == sorted(trained)


def test_an_unknown_one_is_refused_with_the_choices(encoder):
    with pytest.raises(ModelError) as error:
        encoder.trainable("vgg16")
    assert str(error.value) == "train.backbone: expected null or tf_efficientnet_lite0, resnet18, found 'vgg16'"


def test_a_head_reads_all_and_trains_none(encoder):
    read = encoder.read_by(FeedForward(encoder.features, 3, hidden_units=[], dropout=0.0))
    assert (read.backbone, read.trainable_blocks, read.cached) == (tuple(NAMES), 0, None)


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": []},
        {"backbone": ["resnet18"] * 2},
        {"backbone": "resnet18"},
        {"towers": []},
        {"towers": [{"features": 0, "mean": [0.0] * 3, "std": [1.0] * 3}] * 2},
        {"towers": [{"features": 9, "mean": [0.0] * 3, "std": [0.0] * 3}] * 2},
        {"size": "large"},
        {"size": 10**6},
        {"trainable_blocks": -1},
        {"trainable_blocks": "some"},
        {"cached": "everything"},
        {"activations": {"shape": [10**9], "type": "float16"}},
        {"activations": {"shape": [4, 4, 4], "type": "object"}},
    ],
    ids=str,
)
def test_a_strange_state_is_refused(encoder, change):
    with pytest.raises(ModelError):
        Preprocessing.from_state({**encoder.state(), **change}, {})


@pytest.mark.parametrize("name", ["resnet18", "vit_b_32", "timm/test_vit", "timm/convnext_atto"])
def test_a_network_of_another_size_is_saved_and_loaded(name, tmp_path):
    encoder = Encoder.fit((), section_of(backbone=name, size=96), Limits.model_construct(pixels=10**6))
    assert encoder.preprocessing.to_pixels.size == (96, 96)
    encoder.save(tmp_path / "encoder")
    assert files.read_json(tmp_path / "encoder" / "encoder.json")["size"] == 96
    pictures = torch.randn(1, 3, 96, 96)
    assert torch.equal(Encoder.load(tmp_path / "encoder").frozen(pictures), encoder.frozen(pictures))


def test_embeddings_of_positions_are_interpolated():
    same, half = (build("vit_b_32", weights="none", seed=0, size=size)[0].module for size in (224, 112))
    assert same.encoder.pos_embedding.shape[1] == 50 and half.encoder.pos_embedding.shape[1] == 1 + 9
    assert torch.equal(same.encoder.pos_embedding[:, :1], half.encoder.pos_embedding[:, :1])


def test_its_own_size_changes_nothing():
    first, second = (build("resnet18", weights="none", seed=0, size=size) for size in (None, 224))
    assert first[1] == second[1]
    assert torch.equal(first[0](torch.ones(1, 3, 64, 64)), second[0](torch.ones(1, 3, 64, 64)))


@pytest.mark.parametrize("name", ["timm/mixer_s32_224", "maxvit_t"])
def test_a_size_that_a_network_cannot_take(name):
    with pytest.raises(
        ModelError, match=f"encode.size: {name} takes no pictures of 100 pixels .*; set it to null"
    ) as error:
        build(name, weights="none", seed=0, size=100)
    assert "\n" not in str(error.value)


def test_an_architecture_of_its_own_size_is_checked():
    with pytest.raises(ModelError, match="was saved for pictures of 100 pixels"):
        architecture("timm/test_vit", crop=100)
