"""The toy task's only network, and what it is trained on."""

from collections.abc import Iterator

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


def _shares(encoded: Encoded, split: str) -> Tensor:
    return torch.from_numpy(np.array(encoded.of(split, "shares").to_pylist(), np.float32))
