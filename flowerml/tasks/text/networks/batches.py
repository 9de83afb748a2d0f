"""Batches of texts of similar length, padded on the right."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowerml.data.encodings import Encoded, Values
from flowerml.engine.devices import Inputs

# Texts of this many batches are sorted by length together: enough to save padding, few enough to keep batches random.
BATCHES_PER_BUCKET = 50


@dataclass(frozen=True)
class Sequences:
    """Ragged rows of integers: row i is values[offsets[i] : offsets[i + 1]]. Large `values` stay on the disk.

    >>> rows = Sequences(np.array([3, 7, 5], np.int32), np.array([0, 2, 3]))
    >>> rows.padded(np.array([0, 1]))[0].tolist()
    [[3, 7], [5, 0]]
    """

    values: NDArray[np.int32] | Values
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, encoded: Encoded, split: str, column: str) -> "Sequences":
        """Read a column of one split of the encoded texts."""
        rows = encoded.row_values(split, column)
        return cls(Values(rows) if rows.is_large else rows.flat(), rows.offsets)

    def followed_by(self, others: "Sequences") -> "Sequences":
        """Return these rows and then the others."""
        offsets = np.concatenate([self.offsets, self.offsets[-1] + others.offsets[1:]])
        if isinstance(self.values, Values) and isinstance(others.values, Values):
            return Sequences(Values(self.values.rows.followed_by(others.values.rows)), offsets)
        return Sequences(np.concatenate([self.values[:], others.values[:]]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the length of each row, [N]."""
        return np.diff(self.offsets)

    def padded(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the given rows as [B, T] int64, zero-padded on the right, and their lengths [B]."""
        lengths = self.lengths[rows]
        batch = np.zeros((len(rows), lengths.max()), dtype=np.int64)
        for i, row in enumerate(rows):
            batch[i, : lengths[i]] = self[row]
        return torch.from_numpy(batch), torch.from_numpy(lengths)


class StemBatches:
    """Batches of (stems [B, T], lengths [B]) and targets [B] for `flowerml.engine.fit.Trainer`."""

    def __init__(self, stems: dict[str, Sequences], targets: dict[str, NDArray[np.int64]], *, classes: int) -> None:
        self._stems = stems
        self._targets = {split: torch.from_numpy(part) for split, part in targets.items()}
        self.train_counts = torch.bincount(self._targets["train"], minlength=classes)

    def train(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield one epoch: shuffle the texts, sort them by length within buckets, shuffle the batches."""
        order = torch.randperm(len(self._stems["train"])).numpy()
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(order), batch_size * BATCHES_PER_BUCKET):
            bucket = order[start : start + batch_size * BATCHES_PER_BUCKET]
            bucket = bucket[np.argsort(self._stems["train"].lengths[bucket], kind="stable")]
            batches += [bucket[first : first + batch_size] for first in range(0, len(bucket), batch_size)]
        for number in torch.randperm(len(batches)).tolist():
            yield self._batch("train", batches[number])

    def valid(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield the validation texts from the shortest to the longest."""
        order = np.argsort(self._stems["valid"].lengths, kind="stable")
        for start in range(0, len(order), batch_size):
            yield self._batch("valid", order[start : start + batch_size])

    def _batch(self, split: str, rows: NDArray[np.int64]) -> tuple[Inputs, Tensor]:
        return self._stems[split].padded(rows), self._targets[split][rows]
