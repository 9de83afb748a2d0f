"""Several networks as one: their probabilities are averaged, with weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Logits of the members -> logarithms of the weighted mean of their probabilities, [B, C].

    A member reads what its attribute `reads` says: `image`, `activations` or, as a head, `features`; the graph that
    is saved gives each its own. Where all read the same this module can be called by itself.

    >>> heads = [nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)]
    >>> _ = [nn.init.constant_(head.weight, 1.0) for head in heads]
    >>> Ensemble(heads, [0.25, 0.75])(torch.ones(1, 2)).exp().tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, members: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.weights = [weight / sum(weights) for weight in weights]

    def forward(self, inputs: Tensor) -> Tensor:
        return self.combine([member(inputs) for member in self.members])

    def combine(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the logits of all from those of each member, [B, C], in their order."""
        parts = [weight * each.softmax(1) for weight, each in zip(self.weights, logits, strict=True)]
        # A probability may vanish in float32, and its logarithm must be finite.
        return torch.stack(parts).sum(0).clamp(min=torch.finfo(torch.float32).tiny).log()
