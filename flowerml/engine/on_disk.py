"""Vectors that stay on the disk while a network is trained on them."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Source(Protocol):
    """Vectors [M, D], of which some are copied into memory at a time, such as `flowerml.data.encodings.Vectors`."""

    @property
    def shape(self) -> tuple[int, int]:
        """M and D."""

    def __getitem__(self, rows: NDArray[np.int64] | slice, /) -> NDArray[Any]:
        """Return a copy of some of them."""

    def followed_by(self, others: Any, /) -> Any:
        """Return these vectors and then the others."""


@dataclass(frozen=True)
class OnDisk:
    """Some columns of the vectors of a source, indexed by rows as a tensor is; what was indexed is a tensor."""

    source: Source
    columns: slice | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The number of vectors and their dimensions."""
        count, width = self.source.shape
        return count, width if self.columns is None else len(range(*self.columns.indices(width)))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        chosen = rows if isinstance(rows, slice) else rows.numpy()
        vectors = torch.from_numpy(self.source[chosen])
        return vectors if self.columns is None else vectors[:, self.columns]

    def of_columns(self, columns: slice) -> "OnDisk":
        """Return these columns of what are all columns so far."""
        assert self.columns is None, "columns are chosen once"
        return OnDisk(self.source, columns)

    def followed_by(self, others: "OnDisk") -> "OnDisk":
        """Return these vectors and then the others."""
        return OnDisk(self.source.followed_by(others.source), self.columns)
