"""Columns of encodings that stay on the disk: each row is read through the memory map when it is asked for."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from flowerml.data.encodings.layout import numbers

# Bytes of a column of a split up to which training copies it into memory, as that is faster: 200,000 pictures with 1280
# features each. Larger ones are read from the memory map, batch by batch.
IN_MEMORY = 2**30

Numbers = NDArray[np.int64]


class RowValues:
    """A column of a split: each row's list as an array [n] or [n, D], a view of the mapped file, without a copy.

    Columns may be larger than memory, and than the 2 GiB that one Arrow array may address.
    """

    def __init__(self, chunks: Sequence[NDArray[Any]], chunk_of: NDArray[np.int32], starts: Numbers, ends: Numbers):
        self._chunks, self._chunk_of, self._starts, self._ends = chunks, chunk_of, starts, ends

    @classmethod
    def of(cls, table: pa.Table, split: str | None, column: str) -> "RowValues":
        """Return the rows of a split, or all of them, in the order of the table."""
        chunks, counts, starts, ends = [], [], [], []
        for batch in table.to_batches():
            lists = batch.column(column)
            offsets = lists.offsets.to_numpy().astype(np.int64)
            if split is None:
                chosen = np.arange(len(batch))
            else:
                chosen = np.flatnonzero(pa.compute.equal(batch.column("split"), split).to_numpy(zero_copy_only=False))
            chunks.append(numbers(lists.values))
            counts.append(len(chosen))
            starts.append(offsets[:-1][chosen])
            ends.append(offsets[1:][chosen])
        if not chunks:  # a table without rows has no batches
            kind = table.schema.field(column).type
            chunks = [numbers(pa.array([], kind).values)]
        chunk_of = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        none = np.empty(0, np.int64)
        return cls(chunks, chunk_of, np.concatenate([none, *starts]), np.concatenate([none, *ends]))

    def __len__(self) -> int:
        return len(self._chunk_of)

    def __getitem__(self, number: int) -> NDArray[Any]:
        return self._chunks[self._chunk_of[number]][self._starts[number] : self._ends[number]]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[number] for number in range(len(self)))

    @property
    def lengths(self) -> Numbers:
        """The length of each row, [N]."""
        return self._ends - self._starts

    @property
    def is_large(self) -> bool:
        """Whether the rows are better left on the disk."""
        sample = self._chunks[0]
        return int(self.lengths.sum()) * sample.itemsize * (sample.shape[1] if sample.ndim == 2 else 1) > IN_MEMORY

    @property
    def offsets(self) -> Numbers:
        """Where the values of each row begin when all are in a row, and where they end, [N + 1]."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])

    def flat(self) -> NDArray[Any]:
        """Return the values of all rows in a row, [M] or [M, D], as a copy in memory."""
        sample = self._chunks[0]
        values = np.empty((int(self.lengths.sum()), *sample.shape[1:]), sample.dtype)
        end = 0
        bounds = np.flatnonzero(np.diff(self._chunk_of)) + 1
        for rows in np.split(np.arange(len(self)), bounds):
            places = _ranges(self._starts[rows], self._ends[rows])
            start, end = end, end + len(places)
            if len(places):
                values[start:end] = self._chunks[self._chunk_of[rows[0]]][places]
        return values

    def followed_by(self, others: "RowValues") -> "RowValues":
        """Return these rows and then the others."""
        return RowValues(
            [*self._chunks, *others._chunks],
            np.concatenate([self._chunk_of, others._chunk_of + np.int32(len(self._chunks))]),
            np.concatenate([self._starts, others._starts]),
            np.concatenate([self._ends, others._ends]),
        )

    def vectors(self) -> "Vectors":
        """Return the vectors of all rows, [M, D], each of which is read when it is asked for."""
        return Vectors(self._chunks, np.repeat(self._chunk_of, self.lengths), _ranges(self._starts, self._ends))

    def first(self, rows: Numbers) -> NDArray[Any]:
        """Return the first vector of some rows, [len(rows), D], as a copy."""
        return Vectors(self._chunks, self._chunk_of, self._starts)[rows]


class Values:
    """The values of all rows in a row, [M], in the memory map: a slice is a row's view, or a copy of several rows."""

    def __init__(self, rows: RowValues) -> None:
        self.rows, self._offsets = rows, rows.offsets

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def __getitem__(self, part: slice) -> NDArray[Any]:
        start, stop, step = part.indices(len(self))
        first = int(np.searchsorted(self._offsets, start, side="right")) - 1
        if start < stop <= self._offsets[min(first + 1, len(self._offsets) - 1)]:
            begin = int(self._offsets[first])
            return self.rows[first][start - begin : stop - begin : step]
        return self.rows.flat()[part]


class Vectors:
    """Vectors [M, D] in the memory map: `vectors[numbers]` returns a copy of some, [len(numbers), D]."""

    def __init__(self, chunks: Sequence[NDArray[Any]], chunk_of: NDArray[np.int32], places: Numbers) -> None:
        self._chunks, self._chunk_of, self._places = chunks, chunk_of, places

    @property
    def shape(self) -> tuple[int, int]:
        """M and D."""
        return len(self._places), self._chunks[0].shape[1]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, chosen: Numbers | slice) -> NDArray[Any]:
        chunk_of, places = self._chunk_of[chosen].tolist(), self._places[chosen].tolist()
        vectors = np.empty((len(places), self.shape[1]), self._chunks[0].dtype)
        for row, (chunk, place) in enumerate(zip(chunk_of, places, strict=True)):
            vectors[row] = self._chunks[chunk][place]
        return vectors

    def followed_by(self, others: "Vectors") -> "Vectors":
        """Return these vectors and then the others."""
        shifted = others._chunk_of + np.int32(len(self._chunks))
        return Vectors(
            [*self._chunks, *others._chunks],
            np.concatenate([self._chunk_of, shifted]),
            np.concatenate([self._places, others._places]),
        )


def _ranges(starts: Numbers, ends: Numbers) -> Numbers:
    """Return the numbers from each start to its end, in a row.

    >>> _ranges(np.array([3, 7]), np.array([5, 8])).tolist()
    [3, 4, 7]
    """
    lengths = ends - starts
    shifts = starts - np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)[:-1]]) if len(starts) else starts
    return np.arange(int(lengths.sum())) + np.repeat(shifts, lengths)
