"""The activations in front of the trained blocks, cached beside the features."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowerml.tasks.image.encoder.backbone.split import Split, split
from flowerml.tasks.image.encoder.preprocessing import Activations

if TYPE_CHECKING:
    from flowerml.tasks.image.encoder.trainable import Backbones, Blocks

LARGEST = float(np.finfo(np.float16).max) / 2
MOST_DIFFERENT = 2e-3  # of the largest feature


def cut(backbones: "Backbones", blocks: "Blocks", size: tuple[int, int]) -> Split:
    """Return the backbone in front of its trained blocks, and from there on; raises ModelError."""
    ((prefix, depth),) = backbones.depths(size)
    names = [prefix + block for block in depth.blocks]
    return split(backbones.module, names, blocks, size=size, name=backbones.names[0])


class WithActivations(nn.Module):
    """Pictures [B, 3, H, W] -> features [B, D] and activations [B, A] in one pass, side by side."""

    def __init__(self, parts: Split) -> None:
        super().__init__()
        self.front, self.tail = parts.front, parts.tail

    def forward(self, pictures: Tensor) -> Tensor:
        activations = self.front(pictures)
        return torch.cat([self.tail(activations), activations.flatten(1)], dim=1)


@torch.inference_mode()
def kind_of(parts: Split, pictures: NDArray[np.float32]) -> Activations:
    """Return the shape of the activations, and float16 as their type if that changes no feature of `pictures`."""
    device = next(parts.tail.parameters()).device
    activations = parts.front(torch.from_numpy(pictures).to(device))
    features, rounded = parts.tail(activations), parts.tail(activations.half().float())
    fits = (
        activations.abs().max() < LARGEST and (features - rounded).abs().max() < MOST_DIFFERENT * features.abs().max()
    )
    return Activations(parts.shape, "float16" if fits else "float32")
