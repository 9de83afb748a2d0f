"""Whole networks, their weights as files, and whether a backbone holds them."""

import io

import timm
import torch
from torch import nn
from torchvision import models

from flowerml.tasks.image.encoder.backbone import EMBEDDED

TIMM = "timm/test_resnet.r160_in1k"


def whole_network(name: str, **options) -> nn.Module:
    """Return the network with its head, as its library builds it, with weights from a seed of its own."""
    torch.manual_seed(5)
    if name == EMBEDDED or name.startswith("timm/"):
        return timm.create_model(name.removeprefix("timm/"), **options)
    return models.get_model(name, weights=None, **options)


def torch_bytes(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def has_weights(frozen, state) -> bool:
    """Return whether all weights of a backbone are those of a state dict."""
    return all(torch.equal(value, state[key.removeprefix("module.")]) for key, value in frozen.state_dict().items())
