"""Whole networks, their weights as files, and whether a backbone has them."""

import io

import timm
import torch
from torch import nn
from torchvision import models

from flowerml.tasks.image.encoder.backbone import EMBEDDED

TIMM = "timm/test_resnet.r160_in1k"


def network_of(name: str, **options) -> nn.Module:
    """The whole network with its head, as its library makes it; its weights are not those of any other test."""
    torch.manual_seed(5)
    if name == EMBEDDED or name.startswith("timm/"):
        return timm.create_model(name.removeprefix("timm/"), **options)
    return models.get_model(name, weights=None, **options)


def in_bytes(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def holds(frozen, state) -> bool:
    """Whether all of a backbone's numbers are those of a state dict."""
    return all(torch.equal(value, state[key.removeprefix("module.")]) for key, value in frozen.state_dict().items())
