"""The batches that train a fine-tuned network: pictures under fresh augmentation, or cached activations."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from flowerml.engine.devices import Inputs
from flowerml.tasks.image.networks.pictures import Bytes, PictureData
from flowerml.tasks.image.networks.views import training_view

if TYPE_CHECKING:
    from flowerml.tasks.image.sections import TrainAugment

EPOCH_SEEDS = 2**62
VALID_BATCH = 64


class PictureBatches:
    """Normalized pictures [B, 3, H, W]: in training random views of `size`, in validation what is served.

    A view depends on the picture and on a number drawn for the epoch from torch's generator, as the order is: training
    resumes with the same views, whatever thread makes them.
    """

    def __init__(self, data: PictureData, augment: "TrainAugment", *, size: tuple[int, int]) -> None:
        self.train_counts = data.features.train_counts
        self._data, self._augment, self._size = data, augment, size
        red, green, blue = (round(255 * value) for value in data.encoder.preprocessing.to_pixels.mean)
        self._fill = (red, green, blue)

    def train(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """See `flowerml.engine.fit.Batches`."""
        epoch = int(torch.randint(EPOCH_SEEDS, ()))
        order = torch.randperm(len(self._data.rows["train"]))

        def view(number: int) -> Bytes:
            rng = random.Random(f"{epoch}/{self._data.digests[number]}")
            picture = np.asarray(self._data.rows["train"][number], np.uint8)
            return training_view(picture, self._augment, size=self._size, fill=self._fill, rng=rng)

        return self._data.pictures("train", order, view, batch_size=batch_size)

    def valid(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """See `flowerml.engine.fit.Batches`."""
        numbers = torch.arange(len(self._data.rows["valid"]))
        return self._data.plain("valid", numbers, batch_size=batch_size)


class ActivationBatches:
    """Activations [B, *shape] in front of the trained blocks; each epoch picks one cached view of each picture."""

    def __init__(self, data: PictureData) -> None:
        self.train_counts = data.features.train_counts
        self._data = data
        offsets = data.features.features["train"].offsets
        self._counts = offsets[1:] - offsets[:-1]

    def train(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """See `flowerml.engine.fit.Batches`."""
        views = (torch.rand(len(self._counts)) * self._counts).long()
        order = torch.randperm(len(self._counts))
        return self._data.activations("train", order, views[order], batch_size=batch_size)

    def valid(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """See `flowerml.engine.fit.Batches`."""
        numbers = torch.arange(len(self._data.rows["valid"]))
        return self._data.plain("valid", numbers, batch_size=batch_size)
