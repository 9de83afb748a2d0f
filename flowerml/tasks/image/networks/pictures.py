"""What fine-tuning reads of the encodings: cached pictures or activations, which stay on the disk, and features."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from flowerml.data.encodings import Encoded
from flowerml.engine.devices import Inputs, device, moved
from flowerml.engine.feed_forward import FeatureBatches, Views
from flowerml.engine.parallel import ordered_map
from flowerml.tasks.image.networks.probe import Probes

if TYPE_CHECKING:
    from flowerml.tasks.image.encoder import Encoder

SPLITS = ("train", "valid")

Bytes = NDArray[np.uint8]


class Rows(Protocol):
    """Arrays by number, each read through the memory map when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> NDArray[np.generic]: ...


@dataclass(frozen=True)
class Joined:
    """The rows of several parts in a row."""

    parts: tuple[Rows, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, number: int) -> NDArray[np.generic]:
        ends = [*accumulate(map(len, self.parts))]
        part = int(np.searchsorted(ends, number, side="right"))
        return self.parts[part][number - (ends[part - 1] if part else 0)]


@dataclass(frozen=True)
class Reshaped:
    """Flat pictures [H * W * 3] with their sizes [H, W], as [H, W, 3]."""

    values: Rows
    sizes: Rows

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, number: int) -> NDArray[np.generic]:
        height, width = self.sizes[number]
        return self.values[number].reshape(int(height), int(width), 3)


@dataclass(frozen=True)
class PictureData:
    """All that networks of pictures are trained on, for any number of trials.

    `rows` are the pictures [H, W, 3] of each split, or activations [views, numbers] of `shape`; `features` those of
    the whole backbones as they were published; `digests` are of the training pictures. Of these the first `uncropped`
    are not yet cropped to what is served, as all others are.
    """

    encoder: "Encoder"
    features: FeatureBatches
    rows: dict[str, Rows]
    digests: Sequence[str]
    uncropped: int
    shape: tuple[int, ...] | None
    probes: Probes = field(default_factory=Probes)

    @classmethod
    def read(cls, encoded: Encoded, features: FeatureBatches, encoder: "Encoder") -> "PictureData":
        """Return what an encoder has cached for trained blocks; pictures and activations stay on the disk."""
        digests = encoded.of("train", "digest").to_pylist()
        if encoder.cached == "activations":
            activations: dict[str, Rows] = {split: encoded.row_values(split, "activations") for split in SPLITS}
            assert encoder.activations is not None, "their shape is known"
            return cls(encoder, features, activations, digests, 0, encoder.activations.shape)
        pictures: dict[str, Rows] = {
            split: Reshaped(encoded.row_values(split, "pictures"), encoded.row_values(split, "sizes"))
            for split in SPLITS
        }
        return cls(encoder, features, pictures, digests, len(digests), None)

    def with_valid(self) -> "PictureData":
        """Return the examples of both splits as training examples, and none to validate on."""
        rows: dict[str, Rows] = {"train": Joined((self.rows["train"], self.rows["valid"])), "valid": Joined(())}
        # Digests make views differ: those of the validation pictures are as good as any other names.
        digests = [*self.digests, *(f"valid {number}" for number in range(len(self.rows["valid"])))]
        return replace(self, features=with_valid(self.features), rows=rows, digests=digests, probes=Probes())

    def plain(self, split: str, numbers: Tensor, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield the plain view of pictures of a split, by their numbers: what the classifier will see of them."""
        if self.shape is not None:
            return self.activations(split, numbers, torch.zeros_like(numbers), batch_size=batch_size)
        return self.pictures(split, numbers, partial(self.served, split), batch_size=batch_size)

    def served(self, split: str, number: int) -> Bytes:
        """Return a picture of a split as it is served, [H, W, 3], but for `Transform.normalize`."""
        cached = np.asarray(self.rows[split][number], np.uint8)
        if split == "train" and number < self.uncropped:
            return np.asarray(self.encoder.preprocessing.to_pixels.resize_and_crop(Image.fromarray(cached)))
        return cached

    def pictures(
        self, split: str, numbers: Tensor, load: Callable[[int], Bytes], *, batch_size: int
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield normalized pictures [B, 3, H, W] from `load`, which threads call; a few batches are in memory."""

        def stacked(batch: Tensor) -> Tensor:
            return torch.from_numpy(np.stack([load(number) for number in batch.tolist()]))

        batches = numbers.split(batch_size) if len(numbers) else ()
        threads = torch.get_num_threads()
        stacks = ordered_map(stacked, batches, threads=threads, ahead=threads + 1)
        for batch, bytes_of_batch in zip(batches, stacks, strict=True):
            yield (self._normalized(bytes_of_batch),), self.features.targets[split][batch]

    def activations(
        self, split: str, numbers: Tensor, views: Tensor, *, batch_size: int
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield the activations [B, *shape] of one view of each picture."""
        assert self.shape is not None, "activations are cached"
        for start in range(0, len(numbers), batch_size):
            batch = numbers[start : start + batch_size]
            chosen = zip(batch.tolist(), views[start : start + batch_size].tolist(), strict=True)
            rows = np.stack([self.rows[split][number][view] for number, view in chosen])
            inputs = torch.from_numpy(rows).float().reshape(-1, *self.shape)
            if inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield (inputs,), self.features.targets[split][batch]

    def _normalized(self, pictures: Tensor) -> Tensor:
        """Return pictures [B, H, W, 3] of bytes on the device, as `Transform.normalize` would, but channels last."""
        mean, std = self._channels
        values = moved(pictures, device()).permute(0, 3, 1, 2).float().div_(255)
        return values.sub_(mean).div_(std)

    @cached_property
    def _channels(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [3, 1, 1] on the device, which would wait if they were copied for each batch."""
        transform = self.encoder.preprocessing.to_pixels
        mean, std = (torch.tensor(part, device=device())[:, None, None] for part in (transform.mean, transform.std))
        return mean, std


def with_valid(data: FeatureBatches) -> FeatureBatches:
    """Return cached features with the examples of both splits as training examples, and none to validate on."""
    train, valid = (data.features[split] for split in SPLITS)
    targets = torch.cat([data.targets[split] for split in SPLITS])
    empty = Views(valid.values[:0], valid.offsets[:1])
    return FeatureBatches(
        {"train": train.followed_by(valid), "valid": empty},
        {"train": targets.numpy(), "valid": targets[:0].numpy()},
        classes=len(data.train_counts),
    )


def of_columns(data: FeatureBatches, columns: slice) -> FeatureBatches:
    """Return the features of some of the backbones."""
    return FeatureBatches(
        {split: views.of_columns(columns) for split, views in data.features.items()},
        {split: targets.numpy() for split, targets in data.targets.items()},
        classes=len(data.train_counts),
    )
