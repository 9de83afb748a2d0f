"""One network of each family, without weights: its features, its transform, and its graph."""

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
from flowerml.tasks.image.encoder.backbone import EMBEDDED, architecture, build
from flowerml.tasks.image.encoder.backbone import timm_networks as timm_side
from flowerml.tasks.image.encoder.backbone import torchvision_networks as torchvision_side
from flowerml.tasks.image.sections import Encode, Limits

# The smallest of each family, and the width of its features in its paper.
OF_TORCHVISION = {
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
OF_TIMM = {
    EMBEDDED: 1_280,
    "timm/convnext_atto.d2_in1k": 320,
    "timm/levit_128s": 384,
    "timm/mobilenetv4_conv_small.e2400_r224_in1k": 1_280,
    "timm/test_nfnet": 192,
    "timm/test_resnet.r160_in1k": 96,
    "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k": 192,
}
# Wide and high, as a transform may treat them differently.
PICTURES = [
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    for size in ((120, 161), (161, 120))
]


class Numberless(TorchFunctionMode):
    """Networks made in this block take no memory and no time for their weights."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        where = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**(kwargs or {}), **where})


class Divided(nn.Module):
    """A backbone whose features are about 1 again: random weights let them vanish, down to 1e-14."""

    def __init__(self, frozen, by):
        super().__init__()
        self.frozen, self.by = frozen, by

    def forward(self, pictures):
        return self.frozen(pictures) / self.by


def same_pixels(ours, theirs) -> None:
    """Asserts that two transforms give the same of all PICTURES."""
    for picture in PICTURES:
        np.testing.assert_allclose(ours(picture), theirs(picture).numpy(), rtol=0, atol=1e-6)


@pytest.fixture(scope="module", params=[*OF_TORCHVISION.items(), *OF_TIMM.items()], ids=lambda param: param[0])
def family(request):
    """The encoder of a network with random weights, and the width that its features must have."""
    name, width = request.param
    section = Encode.model_construct(backbone=name, weights="none", seed=0)
    return Encoder.fit((), section, Limits.model_construct(pixels=10**6)), width


def test_an_encoder_has_the_features_of_the_papers(family):
    encoder, width = family
    assert encoder.features == width


def test_the_graph_of_a_network_gives_its_features_for_any_number_of_pictures(family, tmp_path):
    encoder, _ = family
    one, two = encoder.random_inputs(1, seed=0), encoder.random_inputs(2, seed=1)
    with torch.inference_mode():
        features = encoder.frozen(torch.from_numpy(two["image"]))
    largest = features.abs().max().item()
    onnx.export(Divided(encoder.frozen, largest), tmp_path / "a.onnx", trace=one, check=two, output="features")
    # Two pictures of noise are much alike, but differ by more than the graph may be wrong.
    assert (features[0] - features[1]).abs().max() > 3 * onnx.TOLERANCE * largest


def test_a_network_that_onnx_has_no_operators_for_is_refused_in_one_line(tmp_path):
    network, _ = build("timm/halonet26t", weights="none", seed=0)
    inputs = {"image": np.zeros((1, 3, 256, 256), dtype=np.float32)}
    with pytest.raises(ModelError, match=r"this network cannot be written as an ONNX graph: .*Unfold") as caught:
        onnx.export(network, tmp_path / "a.onnx", trace=inputs, check=inputs, output="features")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", torchvision_side.names())
def test_of_a_network_of_torchvision_the_head_is_found_and_every_transform_told(name):
    transforms = {torchvision_side.transform_of(name, weights): weights for weights in models.get_model_weights(name)}
    for transform, weights in transforms.items():
        same_pixels(transform, weights.transforms())
    with Numberless():
        headless = architecture(name, crop=next(iter(transforms)).crop)
    assert 1000 not in {len(values) for values in headless.state_dict().values() if values.ndim}


def test_every_transform_of_timm_is_told():
    configurations = {}
    for name in timm.list_models(include_tags=True):
        configuration = timm.get_pretrained_cfg(name).to_dict()
        configurations[timm_side.transform_of(name, configuration)] = configuration
    for transform, configuration in configurations.items():
        same_pixels(transform, create_transform(**resolve_data_config(pretrained_cfg=configuration)))
    assert {(one.fit, one.interpolation) for one in configurations} >= {("squash", "bilinear"), ("border", "bicubic")}
    assert any(one.crop_width for one in configurations) and any(one.resize < one.crop for one in configurations)


def test_a_network_of_timm_that_has_no_head_to_take_off_is_refused():
    with pytest.raises(ModelError, match="timm/qwen3_vit_88m_enc is no classification network"):
        build("timm/qwen3_vit_88m_enc", weights="none", seed=0)
