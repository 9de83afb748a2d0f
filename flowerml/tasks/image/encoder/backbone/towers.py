"""Several backbones side by side, whose features are concatenated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Scale:
    """The mean and the standard deviation by which the pictures of a network are normalized."""

    mean: Channels
    std: Channels

    @classmethod
    def of(cls, values: Any) -> Self:
        """Return the scale of a `Transform`, or of one of a saved encoder."""
        get = values.__getitem__ if isinstance(values, dict) else lambda name: getattr(values, name)
        return cls(tuple(get("mean")), tuple(get("std")))


class Renormalized(nn.Module):
    """A network for pictures that were normalized by the `given` scale, where it expects its `own`."""

    factor: Tensor
    offset: Tensor

    def __init__(self, network: nn.Module, *, given: Scale, own: Scale) -> None:
        super().__init__()
        self.network = network
        self._same = given == own
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (given.mean, given.std))
        own_mean, own_std = (torch.tensor(values, dtype=torch.float64) for values in (own.mean, own.std))
        # Not saved with the weights: the state of the encoder has both scales.
        self.register_buffer("factor", (std / own_std).float()[:, None, None], persistent=False)
        self.register_buffer("offset", ((mean - own_mean) / own_std).float()[:, None, None], persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        renormalized = pictures if self._same else pictures * self.factor + self.offset
        features: Tensor = self.network(renormalized)
        return features.flatten(1)


class Towers(nn.Module):
    """Pictures [B, 3, H, W] -> the features [B, D] of several networks, one after the other.

    >>> networks = [Renormalized(nn.AvgPool2d(8), given=scale, own=scale) for scale in [Scale((0.5,) * 3, (0.5,) * 3)]]
    >>> Towers(networks * 2)(torch.ones(5, 3, 8, 8)).shape
    torch.Size([5, 6])
    """

    def __init__(self, towers: Sequence[nn.Module], numbers: Sequence[int] | None = None) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.numbers = tuple(range(len(towers))) if numbers is None else tuple(numbers)
        """Which of the backbones of `encode.backbone` these are."""

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.cat([tower(pictures) for tower in self.towers], dim=1)

    def part(self, numbers: Sequence[int]) -> "Towers":
        """Return some of the networks, by their `numbers`; they are not copied."""
        return Towers([self.towers[self.numbers.index(number)] for number in numbers], numbers)
