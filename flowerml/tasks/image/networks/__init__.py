"""The feed-forward head of the image task, trained on the features of a frozen backbone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from flowerml.data.encodings import Encoded
from flowerml.engine.fit import Inputs, Trainer, Training

if TYPE_CHECKING:
    from flowerml.tasks.image.sections import Train


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


class FeatureBatches:
    """Batches of cached features, held in memory; each epoch picks one view of each training picture at random."""

    def __init__(self, encoded: Encoded, classes: tuple[str, ...]) -> None:
        self._features = {split: _features(encoded, split) for split in ("train", "valid")}
        self._targets = {split: torch.from_numpy(encoded.targets(split, classes)) for split in ("train", "valid")}
        self.train_counts = torch.bincount(self._targets["train"], minlength=len(classes))
        self.width = self._features["train"][0].shape[1]

    def train(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        features, offsets = self._features["train"]
        counts = offsets[1:] - offsets[:-1]
        views = offsets[:-1] + (torch.rand(len(counts)) * counts).long()
        for batch in torch.randperm(len(counts)).split(batch_size):
            yield (features[views[batch]],), self._targets["train"][batch]

    def valid(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        features, _ = self._features["valid"]
        for start in range(0, len(features), batch_size):
            yield (features[start : start + batch_size],), self._targets["valid"][start : start + batch_size]


def _features(encoded: Encoded, split: str) -> tuple[Tensor, Tensor]:
    """Return all views of a split's N rows, [sum of views, D], and the offsets of each row's views, [N + 1]."""
    column = encoded.of(split, "features")
    width = column.type.value_type.list_size
    values = np.asarray(column.flatten().flatten()).reshape(-1, width)
    offsets = np.concatenate([[0], np.cumsum(column.value_lengths())])
    # A copy, as Arrow's memory is read-only and torch warns of tensors on it.
    return torch.from_numpy(values.copy()), torch.from_numpy(offsets)


def build_network(data: FeatureBatches, section: "Train") -> tuple[nn.Module, Training]:
    """Return a new head, drawn from the section's seed, and the iteration that trains it."""
    torch.manual_seed(section.seed)
    classes = len(data.train_counts)
    network = FeedForward(data.width, classes, hidden_units=section.hidden_units, dropout=section.dropout)
    return network, Trainer(network, data, **section.trainer_arguments())
