"""Examples that occur more than once: within a split, across splits, or under two labels."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from flowerml.data.findings import Finding
from flowerml.data.layout import Row
from flowerml.data.split import SPLITS
from flowerml.engine.similar import Similar

NAMES = {
    True: ("duplicate", "leak", "conflicting_label"),
    False: ("near_duplicate", "near_leak", "near_conflicting_label"),
}


def equal_groups(digests: Sequence[bytes]) -> list[list[int]]:
    """Return the indices of equal digests, in groups of two and more, in their order.

    >>> equal_groups([b"a", b"b", b"a"])
    [[0, 2]]
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        groups[digest].append(index)
    return [group for group in groups.values() if len(group) > 1]


def findings(
    rows: Sequence[Row], groups: Sequence[Sequence[int]], *, exact: bool, means: str = ""
) -> Iterator[Finding]:
    """Yield the findings in groups of copies: one in another split is a leak, one under another label a conflict.

    `groups` hold indices of `rows`. `means` says how the copies were found, where it is not by their contents.
    """
    within, across, conflicting = NAMES[exact]
    row_groups = [[rows[index] for index in group] for group in groups]
    by_name = {
        within: [group for group in row_groups if len(_splits(group)) == 1],
        across: [group for group in row_groups if len(_splits(group)) > 1],
        conflicting: [group for group in row_groups if len({row.label for row in group}) > 1],
    }
    for name, copies in by_name.items():
        if copies:
            detail = _splits_detail(copies) if name == across else _count_detail(copies)
            yield _finding(name, copies, detail=f"{means}, {detail}" if means else detail)


def similar_findings(rows: Sequence[Row], similar: Similar, *, means: str = "") -> Iterator[Finding]:
    """Yield the findings in near duplicates, and one if not all rows were compared with all others."""
    yield from findings(rows, similar.groups, exact=False, means=means)
    if similar.partly_compared:
        detail = ", ".join(filter(None, [means, similar.how]))
        yield Finding("partly_compared", similar.partly_compared, "examples", detail=detail)


def _finding(name: str, groups: list[list[Row]], *, detail: str) -> Finding:
    notes = {row.id: f"{row.split or 'not dealt'}, {row.label}" for group in groups for row in group}
    ids = [[row.id for row in group] for group in groups]
    count = sum(map(len, groups))
    return Finding(name, count, "examples", ids, notes, detail)


def _splits(group: Iterable[Row]) -> set[str | None]:
    return {row.split for row in group}


def _count_detail(groups: list[list[Row]]) -> str:
    return f"in {len(groups):,} group{'s' * (len(groups) != 1)}"


def _splits_detail(groups: list[list[Row]]) -> str:
    kinds = Counter("+".join(split for split in SPLITS if split in _splits(group)) for group in groups)
    return f"{_count_detail(groups)}: " + ", ".join(f"{count:,} in {kind}" for kind, count in sorted(kinds.items()))
