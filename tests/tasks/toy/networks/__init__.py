"""The toy task's only network, and what it is trained on."""

import copy
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from flowerml.data.encodings import Encoded


class Counts:
    """The shares of both splits in memory."""

    def __init__(self, encoded: Encoded, classes: tuple[str, ...]) -> None:
        self._shares = {split: _shares(encoded, split) for split in ("train", "valid")}
        self._targets = {split: torch.from_numpy(encoded.targets(split, classes)) for split in ("train", "valid")}
        self.train_counts = torch.bincount(self._targets["train"], minlength=len(classes))

    def with_valid(self) -> Self:
        """Return these with all of both splits in train."""
        joined = copy.copy(self)
        joined._shares, joined._targets = _in_train(self._shares), _in_train(self._targets)
        joined.train_counts = torch.bincount(joined._targets["train"], minlength=len(self.train_counts))
        return joined

    def train(self, *, batch_size: int) -> Iterator[tuple[tuple[Tensor], Tensor]]:
        """Yield one batch of everything."""
        yield (self._shares["train"],), self._targets["train"]

    def valid(self, *, batch_size: int) -> Iterator[tuple[tuple[Tensor], Tensor]]:
        """Yield one batch of everything."""
        yield (self._shares["valid"],), self._targets["valid"]


def head(classes: int, *, seed: int) -> nn.Module:
    """Return a linear head."""
    torch.manual_seed(seed)
    return nn.Linear(4, classes)


class Mean(nn.Module):
    """The weighted mean of the probabilities of networks, as logits."""

    def __init__(self, networks: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.networks, self.weights = nn.ModuleList(networks), list(weights)

    def forward(self, shares: Tensor) -> Tensor:
        parts = [
            weight * network(shares).softmax(1) for weight, network in zip(self.weights, self.networks, strict=True)
        ]
        return torch.stack(parts).sum(0).log()


def _in_train(splits: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"train": torch.cat([splits["train"], splits["valid"]]), "valid": splits["valid"][:0]}


def _shares(encoded: Encoded, split: str) -> Tensor:
    return torch.from_numpy(np.array(encoded.of(split, "shares").to_pylist(), np.float32))
