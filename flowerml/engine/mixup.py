"""Mixup (Zhang et al., 2018): training on weighted means of two examples, and of their losses."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from flowerml.engine.devices import Inputs


@dataclass(frozen=True)
class Mixup:
    """A mix of each example of a batch with the one as far from the other end, of which it keeps `share`.

    A batch is in random order, so that its reverse needs no drawing, as in timm. The share is at least a half, as in
    fastai: the batch's own targets are those to count hits by.

    >>> mixup = Mixup(0.75)
    >>> [tensor.flatten().tolist() for tensor in mixup.inputs((torch.tensor([[0.0], [4.0]]),))]
    [[1.0, 3.0]]
    """

    share: float

    @classmethod
    def draw(cls, alpha: float) -> Self:
        """Return one whose share is drawn from Beta(alpha, alpha), from torch's generator."""
        share = torch.distributions.Beta(alpha, alpha).sample().item()
        return cls(max(share, 1 - share))

    def inputs(self, inputs: Inputs) -> Inputs:
        """Return the mixed inputs, which are numbers and no codes."""
        return tuple(torch.lerp(tensor.flip(0), tensor, self.share) for tensor in inputs)

    def loss(self, criterion: nn.Module, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits [B, C] of mixed inputs, of which `targets` [B] are those of the batch."""
        own, mixed_in = criterion(logits, targets), criterion(logits, targets.flip(0))
        loss: Tensor = torch.lerp(mixed_in, own, self.share)
        return loss
