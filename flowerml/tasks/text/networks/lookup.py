"""Looking up integers in a sorted table, in NumPy, in torch and in an ONNX graph, which has no such operator."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BITS = 31  # of an id
LARGEST = 2**BITS - 1  # pads the table: no id is as large
PER_PAGE = 2  # ids, in the mean


class Lookup(nn.Module):
    """The rows of ids in a sorted table of n distinct ids, n for an id that is not there.

    A directory says where the ids with the same leading bits start. Ids are hashes and so spread evenly, with about
    two to a page; a binary search of a page takes four steps where one of the whole table takes twenty.

    >>> lookup = Lookup(np.array([3, 7, 2**30]))
    >>> lookup(torch.tensor([[7, 8, 2**30]])).tolist()
    [[1, 3, 2]]
    """

    def __init__(self, ids: NDArray[np.int64]) -> None:
        super().__init__()
        self.count = len(ids)
        bits = min(max(int(math.log2(max(self.count, 1) / PER_PAGE)), 0), BITS)
        self.width = 2 ** (BITS - bits)  # of a page
        starts = np.searchsorted(ids, np.arange(2**bits) * self.width)
        largest = int(np.diff(np.append(starts, self.count)).max())
        self.steps = [2**step for step in reversed(range(largest.bit_length()))]
        self.ids: Tensor
        self.starts: Tensor
        # Steps may read past the last id.
        padded = np.concatenate([ids, np.full(sum(self.steps) + 1, LARGEST)]).astype(np.int32)
        self.register_buffer("ids", torch.from_numpy(padded))
        self.register_buffer("starts", torch.from_numpy(starts.astype(np.int32)))

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.starts[torch.div(ids, self.width, rounding_mode="trunc")].long()
        for step in self.steps:
            rows = rows + step * (self.ids[rows + step - 1] < ids)
        return torch.where(self.ids[rows] == ids, rows, self.count)


def find_rows(table: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return the row of each id in a sorted table of n, n for those that are not there: what `Lookup` returns."""
    rows = np.searchsorted(table, ids)
    inside = np.minimum(rows, max(len(table) - 1, 0))
    is_there = table[inside] == ids if len(table) else np.zeros(len(ids), bool)
    return np.where(is_there, inside, len(table))
