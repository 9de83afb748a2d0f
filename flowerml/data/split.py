"""Splits: labelled examples are dealt into train, valid and test.

scikit-learn's train_test_split and StratifiedGroupKFold depend on the order and the number of all rows: one added row
moves most others to another split. Here a row's split depends on a hash of its id, within its class.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from flowerml.core.display import preview_list
from flowerml.core.errors import DataError
from flowerml.data.layout import Row

SPLITS = ("train", "valid", "test")

K = TypeVar("K")


def limit_per_class(rows: list[Row], *, limit: int | None, seed: int) -> list[Row]:
    """Return at most `limit` rows of each class, drawn by a seed, in their order.

    Where the source has splits, each keeps its share of the limit, and at least one row.

    >>> rows = [Row(f"rose/{number}.jpg", "rose") for number in range(9)]
    >>> len(limit_per_class(rows, limit=4, seed=0))
    4
    """
    if limit is None:
        return rows
    kept: set[str] = set()
    for label, of_class in _grouped(rows, lambda row: row.label).items():
        parts = _grouped(of_class, lambda row: row.split)
        for (split, part), count in zip(
            parts.items(), _shares([len(part) for part in parts.values()], limit), strict=True
        ):
            kept.update(row.id for row in _drawn(part, f"limit/{seed}/{label}/{split}")[:count])
    return [row for row in rows if row.id in kept]


def _shares(sizes: list[int], limit: int) -> list[int]:
    """Return `limit` divided in proportion to the sizes: at least 1, and at most its size, for each."""
    counts, limit = [1] * len(sizes), min(limit, sum(sizes))
    while sum(counts) < limit:
        deficits = [size * limit / sum(sizes) - count for size, count in zip(sizes, counts, strict=True)]
        counts[deficits.index(max(deficits))] += 1
    return counts


def deal(rows: list[Row], *, valid: float, test: float, seed: int, copies: Sequence[Collection[str]] = ()) -> list[Row]:
    """Return the rows with a split each: those of the source are kept, missing splits are dealt out of train.

    `valid` and `test` are the shares of each class; each split gets at least one row of every class. A class is dealt
    by a seed of its own and by its ids, so other classes and the order do not matter, and nearly all rows keep their
    split when a few are added or removed. All rows of a group go into one split; the shares are then met as closely as
    whole groups allow. `copies` are ids of rows with the same content: of those without a split, all go into one, also
    under several labels. Raises DataError for fewer than two classes, a class too small, or a group in two splits.
    """
    labels = sorted({row.label for row in rows})
    if len(labels) < 2:
        raise DataError(f"only one class ({', '.join(labels)}); expected examples of at least two")
    rows = _with_splits_of_groups(rows)
    shares = {name: share for name, share in (("valid", valid), ("test", test)) if name in missing_splits(rows)}
    rows = _with_splits_of_copies(rows, copies, fixed=[name for name in SPLITS if name != "train" or not shares])
    free = [row for row in rows if row.split in (None, "train")]
    if any(row.group is not None for row in rows):
        dealt = _deal_groups(_joined_by_copies(free, copies), shares, seed)
    else:
        dealt = _deal_classes(free, shares, seed, copies)
    return [replace(row, split=dealt.get(row.id, row.split)) for row in rows]


def missing_splits(rows: Iterable[Row]) -> set[str]:
    """Return the splits that no row has."""
    return set(SPLITS) - {row.split for row in rows if row.split is not None}


def check(rows: Iterable[Row], *, classes: Iterable[str] = ()) -> dict[str, dict[str, int]]:
    """Return the counts by split and class.

    Raises DataError where a split is empty, or a class of the rows or of `classes` has no training example.
    """
    counts = count_by_split(rows)
    for split in SPLITS:
        if not counts[split] and split == "train":
            others = " and ".join(name for name in SPLITS if counts[name])
            raise DataError(f"no example for the split train, only {others}; add a folder train, or rename another one")
        if not counts[split]:
            raise DataError(
                f"no example for the split {split}; give it a share of train (data.split.valid, data.split.test), "
                "or a folder"
            )
    untrained = sorted({*classes, *counts["valid"], *counts["test"]} - set(counts["train"]))
    if untrained:
        raise DataError(
            f"no readable training example of {preview_list(untrained)}; add some, or remove the class from every split"
        )
    return counts


def count_by_split(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Return {split: {class: count}}; rows without a split count as \"not dealt\"."""
    counts = {split: Counter[str]() for split in SPLITS}
    for row in rows:
        counts.setdefault(row.split or "not dealt", Counter())[row.label] += 1
    return {split: dict(sorted(counter.items())) for split, counter in counts.items()}


def _deal_classes(
    rows: list[Row], shares: dict[str, float], seed: int, copies: Sequence[Collection[str]]
) -> dict[str, str]:
    """Deal each class; of copies only the first is dealt, and the others follow it."""
    ids = {row.id for row in rows}
    first_copies: dict[str, str] = {}
    for group in copies:
        first, *others = sorted(ids.intersection(group)) or [""]
        first_copies |= dict.fromkeys(others, first)
    copied = Counter(row.label for row in rows if row.id in first_copies)
    dealt: dict[str, str] = {}
    for label, of_class in _grouped([row for row in rows if row.id not in first_copies], lambda row: row.label).items():
        dealt |= _deal_class(label, of_class, shares, seed, copied=copied[label])
    return dealt | {id: dealt[first] for id, first in first_copies.items()}


def _deal_class(label: str, rows: list[Row], shares: dict[str, float], seed: int, *, copied: int) -> dict[str, str]:
    if len(rows) < len(shares) + 1:
        parts = " and ".join([", ".join(["train", *shares][:-1]), *list(shares)[-1:]])
        apart = f", apart from {copied:,} {'copies' if copied > 1 else 'copy'} of others" if copied else ""
        raise DataError(
            f"class {label!r} has {len(rows)} example{'s' * (len(rows) != 1)}{apart}; at least {len(shares) + 1} are "
            f"needed to deal {parts}: add some, or remove the class"
        )
    order = _drawn(rows, f"split/{seed}/{label}")
    dealt: dict[str, str] = {}
    start = 0
    for later, (name, share) in zip(range(len(shares) - 1, -1, -1), shares.items(), strict=True):
        # At least one row is left for each of the following splits, and for train.
        count = min(max(1, round(share * len(rows))), len(rows) - start - later - 1)
        dealt |= {row.id: name for row in order[start : start + count]}
        start += count
    return dealt | {row.id: "train" for row in order[start:]}


def _deal_groups(rows: list[Row], shares: dict[str, float], seed: int) -> dict[str, str]:
    """Deal whole groups, the largest first, each to the split that lacks most of the group's classes."""
    parts = {"train": 1 - sum(shares.values()), **shares}
    lacking = {name: {k: share * n for k, n in _counted(rows).items()} for name, share in parts.items()}
    groups = list(_grouped(rows, lambda row: row.group or f"row/{row.id}").values())
    groups.sort(key=lambda group: (-len(group), _hash(group[0].group or group[0].id, f"split/{seed}")))
    dealt: dict[str, str] = {}
    for group in groups:
        sizes = _counted(group)
        split = max(parts, key=lambda name: sum(n * lacking[name][label] for label, n in sizes.items()))
        for label, count in sizes.items():
            lacking[split][label] -= count
        dealt |= {row.id: split for row in group}
    return dealt


def _with_splits_of_groups(rows: list[Row]) -> list[Row]:
    """Return the rows, each without a split in the split of its group; raises DataError where a group has two."""
    splits: dict[str, str] = {}
    for row in rows:
        if row.group is not None and row.split is not None and splits.setdefault(row.group, row.split) != row.split:
            raise DataError(
                f"group {row.group!r} is in two splits ({splits[row.group]} and {row.split}, such as {row.id}); "
                "expected each group in one: fix the table, or leave its splits empty"
            )
    return [replace(row, split=row.split or splits.get(row.group)) if row.group else row for row in rows]


def _with_splits_of_copies(rows: list[Row], copies: Sequence[Collection[str]], *, fixed: Collection[str]) -> list[Row]:
    """Return the rows, each without a split and a group in the split of its copy, where that is one of `fixed`."""
    by_id = {row.id: row for row in rows}
    splits: dict[str, str] = {}
    for ids in copies:
        given = {by_id[id].split for id in ids if id in by_id}
        split = next((name for name in SPLITS if name in fixed and name in given), None)
        if split is not None:
            splits |= dict.fromkeys(ids, split)
    keep = [row.split is not None or row.group is not None for row in rows]
    return [row if kept else replace(row, split=splits.get(row.id)) for row, kept in zip(rows, keep, strict=True)]


def _joined_by_copies(rows: list[Row], copies: Sequence[Collection[str]]) -> list[Row]:
    """Return the rows with groups joined that hold copies of each other; a copy without a group joins one."""
    groups = {row.id: row.group for row in rows}
    joined: dict[str, str] = {}

    def root(group: str) -> str:
        while group in joined:
            # Halve the path, or a chain of a million groups would be walked once for each of its rows.
            joined[group] = joined.get(joined[group], joined[group])
            group = joined[group]
        return group

    for number, ids in enumerate(copies):
        held = [id for id in ids if id in groups]
        roots = sorted({root(group) for id in held if (group := groups[id]) is not None}) or [f"copies/{number}"]
        joined |= dict.fromkeys(roots[1:], roots[0])
        groups |= {id: groups[id] or roots[0] for id in held}
    return [replace(row, group=root(group)) if (group := groups[row.id]) is not None else row for row in rows]


def _counted(rows: Iterable[Row]) -> Counter[str]:
    return Counter(row.label for row in rows)


def _grouped(rows: Iterable[Row], key: Callable[[Row], K]) -> dict[K, list[Row]]:
    groups: dict[K, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def _drawn(rows: list[Row], seed: str) -> list[Row]:
    """Return the rows in a random order, in which an added or removed row does not move the others."""
    return sorted(rows, key=lambda row: _hash(row.id, seed))


def _hash(name: str, seed: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
