"""One network of each family with random weights: its features, its transform, and its graph."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models

from flowerml.core.errors import ModelError
from flowerml.engine import onnx
from flowerml.tasks.image.encoder import Encoder
from flowerml.tasks.image.encoder.backbone import (
    EMBEDDED,
    architecture,
    build,
    timm_networks,
    torchvision_networks,
)
from flowerml.tasks.image.sections import Encode, Limits

# The smallest network of each family, and the number of its features according to its paper.
TORCHVISION_FEATURES = {
    "alexnet": 9_216,
    "convnext_tiny": 768,
    "densenet121": 1_024,
    "efficientnet_b0": 1_280,
    "efficientnet_v2_s": 1_280,
    "googlenet": 1_024,
    "inception_v3": 2_048,
    "maxvit_t": 512,
    "mnasnet0_5": 1_280,
    "mobilenet_v2": 1_280,
    "mobilenet_v3_small": 576,
    "regnet_y_400mf": 440,
    "resnet18": 512,
    "resnext50_32x4d": 2_048,
    "shufflenet_v2_x0_5": 1_024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "swin_v2_t": 768,
    "vgg11": 25_088,
    "vit_b_32": 768,
    "wide_resnet50_2": 2_048,
}
TIMM_FEATURES = {
    EMBEDDED: 1_280,
    "timm/convnext_atto.d2_in1k": 320,
    "timm/levit_128s": 384,
    "timm/mobilenetv4_conv_small.e2400_r224_in1k": 1_280,
    "timm/test_nfnet": 192,
    "timm/test_resnet.r160_in1k": 96,
    "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k": 192,
}
# Seconds each, where another network here has the same operators or is a transformer too: `make extended` has them.
LARGE = {
    "convnext_tiny",
    "efficientnet_v2_s",
    "inception_v3",
    "maxvit_t",
    "resnext50_32x4d",
    "swin_t",
    "swin_v2_t",
    "vit_b_32",
    "wide_resnet50_2",
}
# A wide and a tall one, as a transform may treat them differently.
PICTURES = [
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    for size in ((120, 161), (161, 120))
]


class WithoutWeights(TorchFunctionMode):
    """A block in which networks are built without memory and time for their weights."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        device = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**(kwargs or {}), **device})


class Rescaled(nn.Module):
    """A backbone whose features are divided by `scale`: with random weights they may be as small as 1e-14."""

    def __init__(self, frozen, scale):
        super().__init__()
        self.frozen, self.scale = frozen, scale

    def forward(self, pictures):
        return self.frozen(pictures) / self.scale


def assert_same_pixels(ours, theirs) -> None:
    """Assert that two transforms agree on all PICTURES."""
    for picture in PICTURES:
        np.testing.assert_allclose(ours(picture), theirs(picture).numpy(), rtol=0, atol=1e-6)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(family, id=family[0], marks=[pytest.mark.extended] if family[0] in LARGE else [])
        for family in {**TORCHVISION_FEATURES, **TIMM_FEATURES}.items()
    ],
)
def family(request):
    """Return the encoder of a network with random weights, and the expected number of features."""
    name, width = request.param
    section = Encode.model_construct(backbone=name, weights="none", seed=0)
    return Encoder.fit((), section, Limits.model_construct(pixels=10**6)), width


def test_features_as_in_the_papers(family):
    encoder, width = family
    assert encoder.features == width


def test_the_graph_takes_any_batch_size(family, tmp_path):
    encoder, _ = family
    trace, check = encoder.preprocessing.random_inputs(1, seed=0), encoder.preprocessing.random_inputs(2, seed=1)
    with torch.inference_mode():
        features = encoder.frozen(torch.from_numpy(check["image"]))
    largest = features.abs().max().item()
    onnx.export(Rescaled(encoder.frozen, largest), tmp_path / "a.onnx", trace=trace, check=check, output="features")
    # Features of two pictures of noise are similar, but differ by more than the graph's tolerance.
    assert (features[0] - features[1]).abs().max() > 3 * onnx.TOLERANCE * largest


def test_a_network_without_onnx_operators(tmp_path):
    network, _ = build("timm/halonet26t", weights="none", seed=0)
    inputs = {"image": np.zeros((1, 3, 256, 256), dtype=np.float32)}
    with pytest.raises(ModelError, match=r"this network cannot be written as an ONNX graph: .*Unfold") as error:
        onnx.export(network, tmp_path / "a.onnx", trace=inputs, check=inputs, output="features")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", torchvision_networks.names())
def test_torchvision_heads_and_transforms(name):
    transforms = {
        torchvision_networks.transform_of(name, weights): weights for weights in models.get_model_weights(name)
    }
    for transform, weights in transforms.items():
        assert_same_pixels(transform, weights.transforms())
    with WithoutWeights():
        headless = architecture(name, crop=next(iter(transforms)).crop)
    assert 1000 not in {len(values) for values in headless.state_dict().values() if values.ndim}


def test_every_transform_of_timm():
    configurations = {}
    for name in timm.list_models(include_tags=True):
        configuration = timm.get_pretrained_cfg(name).to_dict()
        configurations[timm_networks.transform_of(name, configuration)] = configuration
    for transform, configuration in configurations.items():
        assert_same_pixels(transform, create_transform(**resolve_data_config(pretrained_cfg=configuration)))
    kinds = {(transform.fit, transform.interpolation) for transform in configurations}
    assert kinds >= {("squash", "bilinear"), ("border", "bicubic")}
    assert any(transform.crop_width for transform in configurations)
    assert any(transform.resize < transform.crop for transform in configurations)


def test_timm_without_a_head_is_rejected():
    with pytest.raises(ModelError, match="timm/qwen3_vit_88m_enc is not a classification network"):
        build("timm/qwen3_vit_88m_enc", weights="none", seed=0)
