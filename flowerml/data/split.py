"""Dealing labelled examples into train, valid and test."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from flowerml.core.display import preview_list
from flowerml.core.errors import DataError
from flowerml.data.layout import Row

SPLITS = ("train", "valid", "test")

K = TypeVar("K")


def limit_per_class(rows: list[Row], *, limit: int | None, seed: int) -> list[Row]:
    """At most `limit` rows of each class, drawn from a seed.

    Where the source has splits each keeps its share of the limit, and at least one row. The order stays.
    """
    if limit is None:
        return rows
    kept: set[str] = set()
    for label, ours in _grouped(rows, lambda row: row.label).items():
        parts = _grouped(ours, lambda row: row.split)
        for (split, part), count in zip(
            parts.items(), _shares([len(part) for part in parts.values()], limit), strict=True
        ):
            kept.update(row.id for row in _drawn(part, f"limit/{seed}/{label}/{split}")[:count])
    return [row for row in rows if row.id in kept]


def _shares(sizes: list[int], limit: int) -> list[int]:
    """`limit` dealt in proportion to the sizes, at least 1 and at most its size to each."""
    counts, limit = [1] * len(sizes), min(limit, sum(sizes))
    while sum(counts) < limit:
        wanting = [size * limit / sum(sizes) - count for size, count in zip(sizes, counts, strict=True)]
        counts[wanting.index(max(wanting))] += 1
    return counts


def deal(rows: list[Row], *, valid: float, test: float, seed: int) -> list[Row]:
    """Rows with a split each: those a source has are kept, the missing ones are dealt out of train.

    `valid` and `test` are the shares of a class's rows that are dealt; each gets at least one row of every class.
    A class is dealt from its own seed and by its ids, so other classes and the order do not matter, and where a few
    rows come or go nearly all others stay in their splits. Rows of one group go into one split, all of them; the
    shares are then met as closely as whole groups can.
    Raises DataError for fewer than two classes, a class too small to be dealt, or a group in two splits.
    """
    labels = sorted({row.label for row in rows})
    if len(labels) < 2:
        raise DataError(f"one class only ({', '.join(labels)}); expected examples of at least two")
    rows = _joined(rows)
    found = {row.split for row in rows if row.split is not None}
    shares = {name: share for name, share in (("valid", valid), ("test", test)) if name not in found}
    free = [row for row in rows if row.split in (None, "train")]
    if any(row.group is not None for row in rows):
        dealt = _deal_groups(free, shares, seed)
    else:
        dealt = {}
        for label, ours in _grouped(free, lambda row: row.label).items():
            dealt |= _deal_class(label, ours, shares, seed)
    return [replace(row, split=dealt.get(row.id, row.split)) for row in rows]


def check(rows: Iterable[Row], *, classes: Iterable[str] = ()) -> dict[str, dict[str, int]]:
    """Counts per split and class.

    Raises DataError where a split is empty, or a class (of the rows, or named in `classes`) cannot be learned.
    """
    counts = count_by_split(rows)
    for split in SPLITS:
        if not counts[split]:
            raise DataError(
                f"no example is left for {split}; give it a share of train (data.split.valid, data.split.test), "
                "or a folder"
            )
    untaught = sorted({*classes, *counts["valid"], *counts["test"]} - set(counts["train"]))
    if untaught:
        raise DataError(
            f"no readable training example of {preview_list(untaught)}; add some, or remove the class from every split"
        )
    return counts


def count_by_split(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """How many rows each split has of each class; of rows without a split beside them, where there are any."""
    counts = {split: Counter[str]() for split in SPLITS}
    for row in rows:
        counts.setdefault(row.split or "not dealt", Counter())[row.label] += 1
    return {split: dict(sorted(counter.items())) for split, counter in counts.items()}


def _deal_class(label: str, rows: list[Row], shares: dict[str, float], seed: int) -> dict[str, str]:
    if len(rows) < len(shares) + 1:
        parts = " and ".join([", ".join(["train", *shares][:-1]), *list(shares)[-1:]])
        raise DataError(
            f"class {label!r} has {len(rows)} example{'s' * (len(rows) != 1)}; at least {len(shares) + 1} are needed "
            f"to deal {parts}: add some, or remove the class"
        )
    order = _drawn(rows, f"split/{seed}/{label}")
    dealt: dict[str, str] = {}
    start = 0
    for later, (name, share) in zip(range(len(shares) - 1, -1, -1), shares.items(), strict=True):
        # One row at least is left for each split that is still to be dealt, and for train.
        count = min(max(1, round(share * len(rows))), len(rows) - start - later - 1)
        dealt |= {row.id: name for row in order[start : start + count]}
        start += count
    return dealt | {row.id: "train" for row in order[start:]}


def _deal_groups(rows: list[Row], shares: dict[str, float], seed: int) -> dict[str, str]:
    """Whole groups, the largest first, each to the split that lacks most of what the group holds."""
    parts = {"train": 1 - sum(shares.values()), **shares}
    lacking = {name: {k: share * n for k, n in _counted(rows).items()} for name, share in parts.items()}
    groups = list(_grouped(rows, lambda row: row.group or f"row/{row.id}").values())
    groups.sort(key=lambda group: (-len(group), _place(group[0].group or group[0].id, f"split/{seed}")))
    dealt: dict[str, str] = {}
    for group in groups:
        held = _counted(group)
        split = max(parts, key=lambda name: sum(n * lacking[name][label] for label, n in held.items()))
        for label, count in held.items():
            lacking[split][label] -= count
        dealt |= {row.id: split for row in group}
    return dealt


def _joined(rows: list[Row]) -> list[Row]:
    """The rows, those without a split in that of their group where it has one; raises DataError where it has two."""
    splits: dict[str, str] = {}
    for row in rows:
        if row.group is not None and row.split is not None and splits.setdefault(row.group, row.split) != row.split:
            raise DataError(
                f"group {row.group!r} is in two splits ({splits[row.group]} and {row.split}, such as {row.id}); "
                "expected each group in one: mend the table, or leave its splits empty"
            )
    return [replace(row, split=row.split or splits.get(row.group)) if row.group else row for row in rows]


def _counted(rows: Iterable[Row]) -> Counter[str]:
    return Counter(row.label for row in rows)


def _grouped(rows: Iterable[Row], key: Callable[[Row], K]) -> dict[K, list[Row]]:
    groups: dict[K, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def _drawn(rows: list[Row], seed: str) -> list[Row]:
    """The rows in an order drawn from `seed`, in which a row that comes or goes moves no other one."""
    return sorted(rows, key=lambda row: _place(row.id, seed))


def _place(name: str, seed: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
