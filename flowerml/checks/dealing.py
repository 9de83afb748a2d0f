"""Dealing rows into splits so that no copy of an example is in two of them."""

from collections import Counter, defaultdict
from pathlib import Path

from flowerml.config.params import Data
from flowerml.core import progress
from flowerml.data import split
from flowerml.data.layout import Row
from flowerml.engine.parallel import ordered_map
from flowerml.tasks.base import Task

Copies = list[list[str]]
"""The ids of rows with the same content, two and more each."""


def deal(task: Task, source: Path, data: Data, rows: list[Row]) -> list[Row]:
    """Return the rows with a split each, as `split.deal` does; copies that it deals go into one split.

    Splits of the source and of a table stay as they are: a copy across them is reported as a leak. Raises DataError.
    """
    return deal_copies(data, rows, copies(task, source, data, rows))


def deal_copies(data: Data, rows: list[Row], copies: Copies) -> list[Row]:
    """Return the rows with a split each, where their copies are known."""
    return split.deal(rows, valid=data.split.valid, test=data.split.test, seed=data.seed, copies=copies)


def copies(task: Task, source: Path, data: Data, rows: list[Row]) -> Copies:
    """Return the copies among the rows that are still to be dealt, and those they may have to follow.

    The contents are read once more (of files, only those whose size another file has too), and a digest of each is kept
    in memory. A row that cannot be read has no copies.
    """
    candidates = _of_repeated_size(_to_compare(rows))
    by_digest: dict[bytes, list[str]] = defaultdict(list)
    if not candidates:
        return []
    contents = task.contents(source, data, candidates)
    digests = ordered_map(lambda item: (item[0], task.digest(item[1], data)), contents)
    for id, digest in progress.bar(digests, total=len(candidates), desc="compare", unit="example"):
        if digest is not None:
            by_digest[digest].append(id)
    return [ids for ids in by_digest.values() if len(ids) > 1]


def _to_compare(rows: list[Row]) -> list[Row]:
    """Return the rows that may be dealt, and all of them where some without a split may follow one that has a split."""
    if any(row.split is None for row in rows):
        return rows
    return [row for row in rows if row.split == "train"] if split.missing_splits(rows) & {"valid", "test"} else []


def _of_repeated_size(rows: list[Row]) -> set[str]:
    """Return the ids of rows whose size another row has, or whose size says nothing about their content."""
    sizes = Counter(row.size for row in rows)
    return {row.id for row in rows if row.size is None or sizes[row.size] > 1}
