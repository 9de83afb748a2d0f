"""A feed-forward head, and the batches of frozen features that train it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowerml.engine.devices import Inputs
from flowerml.engine.on_disk import OnDisk, Source


class FeedForward(nn.Sequential):
    """Features [B, D] -> logits [B, C]: fully connected layers with ReLU and dropout, as in the notebook.

    `hidden_units` [4096, 4096] is the notebook's head, [] a linear one. Each layer but the first has dropout before it;
    a linear head has dropout before its only layer.

    >>> head = FeedForward(1280, 102, hidden_units=[256], dropout=0.2)
    >>> head(torch.zeros(4, 1280)).shape
    torch.Size([4, 102])
    """

    def __init__(self, features: int, classes: int, *, hidden_units: list[int], dropout: float) -> None:
        layers: list[nn.Module] = []
        for width in hidden_units:
            layers += [nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout)]
            features = width
        super().__init__(*(layers or [nn.Dropout(dropout)]), nn.Linear(features, classes))


@dataclass(frozen=True)
class Views:
    """The features of N examples, of each one or more views: rows offsets[i] to offsets[i + 1] of `values` [M, D]."""

    values: Tensor | OnDisk
    offsets: Tensor

    @classmethod
    def of(cls, values: NDArray[np.float32] | Source, offsets: NDArray[np.int64]) -> "Views":
        """Return views of arrays, or of vectors that stay on the disk.

        An array in Arrow's memory is copied: it is read-only, and torch warns of tensors on it.
        """
        if not isinstance(values, np.ndarray):
            return cls(OnDisk(values), torch.from_numpy(offsets.copy()))
        return cls(torch.from_numpy(values if values.flags.writeable else values.copy()), torch.from_numpy(offsets))

    def of_columns(self, columns: slice) -> "Views":
        """Return the views of some dimensions."""
        values = self.values
        return Views(values.of_columns(columns) if isinstance(values, OnDisk) else values[:, columns], self.offsets)

    def followed_by(self, others: "Views") -> "Views":
        """Return the views of these examples and then of the others."""
        offsets = torch.cat([self.offsets, others.offsets[1:] + len(self.values)])
        if isinstance(self.values, OnDisk) and isinstance(others.values, OnDisk):
            return Views(self.values.followed_by(others.values), offsets)
        return Views(torch.cat([self.values[:], others.values[:]]), offsets)

    def first(self, numbers: Tensor) -> Tensor:
        """Return the first view of some examples, [len(numbers), D]."""
        return self.values[self.offsets[:-1][numbers]]


class FeatureBatches:
    """Batches of cached features, in memory or on the disk; an epoch picks one view of each training example at random.

    `features` and `targets` [N] are those of the splits train and valid.
    """

    def __init__(
        self, features: Mapping[str, Views], targets: Mapping[str, NDArray[np.int64]], *, classes: int
    ) -> None:
        self.features = features
        self.targets = {split: torch.from_numpy(part) for split, part in targets.items()}
        self.train_counts = torch.bincount(self.targets["train"], minlength=classes)
        self.width = features["train"].values.shape[1]

    def train(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """See `flowerml.engine.fit.Batches`."""
        values, offsets = self.features["train"].values, self.features["train"].offsets
        counts = offsets[1:] - offsets[:-1]
        views = offsets[:-1] + (torch.rand(len(counts)) * counts).long()
        for batch in torch.randperm(len(counts)).split(batch_size):
            yield (values[views[batch]],), self.targets["train"][batch]

    def valid(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """See `flowerml.engine.fit.Batches`."""
        values = self.features["valid"].values
        for start in range(0, len(values), batch_size):
            yield (values[start : start + batch_size],), self.targets["valid"][start : start + batch_size]
