"""Rows that are similar to each other: the groups they form, and the search for them among many rows.

Up to EXACT_ROWS rows a check may compare all pairs. Beyond, `sorted_neighbors` compares rows of bits whose sorting keys
are close, in many orders: locality-sensitive hashing by bit sampling (P. Indyk, R. Motwani, "Approximate nearest
neighbors", 1998), as a sorted list instead of buckets (M. Charikar, "Similarity estimation techniques from rounding
algorithms", 2002). A list needs no bucket size: the length of the prefix that neighbors share follows from the data.
Its cost is rows x orders x window, whatever the data look like. faiss, which has such an index, would add 30 MB.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXACT_ROWS = 100_000  # up to here all pairs are compared
KEY_BITS = 48  # of an order: more than tell a billion rows apart
ORDERS = 48
WINDOW = 32  # rows after each one, in an order, that it is compared with
BLOCK = 2**15  # rows that are compared at once
FLUSHED = 2**18  # pairs that are confirmed and joined at once

Pairs = NDArray[np.int64]


@dataclass(frozen=True)
class Similar:
    """The groups of similar rows, two and more each, ascending.

    `partly_compared` is the number of rows that were compared with likely ones only; `how` says it in a few words.
    """

    groups: list[list[int]]
    partly_compared: int = 0
    how: str = ""


class Components:
    """The connected components of rows, joined by arrays of pairs.

    It keeps one number for each row, where a list of all pairs of 10,000 equal rows would hold 50 million.

    >>> components = Components(10)
    >>> components.join(np.array([[4, 7], [1, 2], [7, 9]]))
    >>> components.groups()
    [[1, 2], [4, 7, 9]]
    """

    def __init__(self, rows: int) -> None:
        self._lowest = np.arange(rows)  # the lowest row of each one's component

    def separate(self, pairs: Pairs) -> Pairs:
        """Return those of the pairs [M, 2] whose rows are in different components."""
        lowest = self._lowest[pairs]
        return pairs[lowest[:, 0] != lowest[:, 1]]

    def join(self, pairs: Pairs) -> None:
        """Join the components of the rows of each pair [M, 2]."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        edges = self._lowest[self.separate(pairs)]
        if not len(edges):
            return
        nodes, ends = np.unique(edges, return_inverse=True)
        ends = ends.reshape(-1, 2)
        graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(len(nodes), len(nodes)))
        _, members = connected_components(graph, directed=False)
        _, first = np.unique(members, return_index=True)
        renamed = np.arange(len(self._lowest))
        renamed[nodes] = nodes[first[members]]
        self._lowest = renamed[self._lowest]

    def groups(self) -> list[list[int]]:
        """Return the components of two and more rows, ascending."""
        lowest, sizes = np.unique(self._lowest, return_counts=True)
        rows = np.flatnonzero(np.isin(self._lowest, lowest[sizes > 1]))
        rows = rows[np.argsort(self._lowest[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(self._lowest[rows])) + 1
        return [group.tolist() for group in np.split(rows, starts)] if len(rows) else []


def told(crowded: int, things: str) -> str:
    """Return how `sorted_neighbors` compared, in a few words.

    >>> told(0, "pictures")
    'each with those that 48 sortings put next to it'
    """
    how = f"each with those that {ORDERS} sortings put next to it"
    return f"{how}; {crowded:,} {things} resemble more than {WINDOW} others" if crowded else how


def sorted_neighbors(
    codes: NDArray[np.uint64],
    confirm: Callable[[Pairs], NDArray[np.bool_]],
    components: Components,
    *,
    largest_distance: int,
    seed: int = 0,
) -> int:
    """Join the rows of bits that are close and that `confirm`, and return how many have more neighbors than compared.

    `codes` [N, B] hold 64 bits in each number. A pair is compared if fewer than WINDOW rows lie between its rows in one
    of ORDERS sortings by KEY_BITS drawn bits; it is close if at most `largest_distance` bits differ. `confirm` gets
    close pairs [M, 2] of rows that are not yet joined, lower first, and returns which are similar, [M].
    """
    rng = np.random.default_rng(seed)
    columns = np.ascontiguousarray(codes.T)
    crowded = np.zeros(len(codes), dtype=bool)
    for _ in range(ORDERS):
        order = np.argsort(_keys(columns, rng.permutation(64 * len(columns))[:KEY_BITS]), kind="stable")
        for pairs in _flushed(_close_pairs(columns[:, order], largest_distance)):
            full = order[pairs[np.diff(pairs, axis=1)[:, 0] == WINDOW]]
            crowded[full] = True
            apart = components.separate(np.sort(order[pairs], axis=1))
            if len(apart):
                components.join(apart[confirm(apart)])
    return int(crowded.sum())


def _keys(columns: NDArray[np.uint64], chosen: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the chosen bits of each row as one number, [N]; columns [B, N].

    Shifting in blocks takes 60 ns a row, np.unpackbits and np.packbits 550.
    """
    keys = np.zeros(columns.shape[1], dtype=np.uint64)
    for start in range(0, len(keys), BLOCK):
        block, part = keys[start : start + BLOCK], columns[:, start : start + BLOCK]
        for bit in chosen.tolist():
            block <<= np.uint64(1)
            block |= (part[bit // 64] >> np.uint64(bit % 64)) & np.uint64(1)
    return keys


def _close_pairs(ordered: NDArray[np.uint64], largest_distance: int) -> Iterator[Pairs]:
    """Yield the pairs [M, 2] of rows that differ in few bits and lie at most WINDOW apart. ordered [B, N]."""
    for start in range(0, ordered.shape[1], BLOCK):  # so few that they stay in a core's cache
        part = ordered[:, start : start + BLOCK + WINDOW]
        for offset in range(1, min(WINDOW, part.shape[1] - 1) + 1):
            lower = part[:, : min(BLOCK, part.shape[1] - offset)]
            distances = np.bitwise_count(lower ^ part[:, offset : offset + lower.shape[1]]).sum(axis=0, dtype=np.uint16)
            close = np.flatnonzero(distances <= largest_distance) + start
            if len(close):
                yield np.stack([close, close + offset], axis=1)


def _flushed(parts: Iterator[Pairs]) -> Iterator[Pairs]:
    """Yield the pairs in larger parts of bounded size, as joining costs a pass over all rows."""
    waiting: list[Pairs] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(part)
        if count >= FLUSHED:
            yield np.concatenate(waiting)
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)
