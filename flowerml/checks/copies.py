"""Examples that are there twice: within a split, across splits, or under two labels."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from flowerml.data.findings import Finding
from flowerml.data.layout import Row

NAMES = {
    True: ("duplicate", "leak", "conflicting_label"),
    False: ("near_duplicate", "near_leak", "near_conflicting_label"),
}


def same(digests: Sequence[bytes]) -> list[list[int]]:
    """The numbers of equal digests, in groups of two and more, in their order."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for number, digest in enumerate(digests):
        groups[digest].append(number)
    return [group for group in groups.values() if len(group) > 1]


def joined(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The groups that pairs of numbers make, if whatever is paired with one of a group belongs to it."""
    parents: dict[int, int] = {}

    def root(number: int) -> int:
        parents.setdefault(number, number)
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parents[high] = low
    groups: dict[int, list[int]] = defaultdict(list)
    for number in sorted(parents):
        groups[root(number)].append(number)
    return [groups[number] for number in sorted(groups)]


def findings(
    rows: Sequence[Row], groups: Sequence[Sequence[int]], *, exact: bool, means: str = ""
) -> Iterator[Finding]:
    """What these groups of rows mean: a copy in another split is a leak, one under another label a conflict.

    `means` says what they were found by, where it is not the contents.
    """
    within, across, conflicting = NAMES[exact]
    ours = [[rows[number] for number in group] for group in groups]
    by_name = {
        within: [group for group in ours if len(_splits(group)) == 1],
        across: [group for group in ours if len(_splits(group)) > 1],
        conflicting: [group for group in ours if len({row.label for row in group}) > 1],
    }
    for name, found in by_name.items():
        if found:
            detail = _between(found) if name == across else _groups(found)
            yield _finding(name, found, detail=f"{means}, {detail}" if means else detail)


def _finding(name: str, groups: list[list[Row]], *, detail: str) -> Finding:
    notes = {row.id: f"{row.split or 'not dealt'}, {row.label}" for group in groups for row in group}
    ids = [[row.id for row in group] for group in groups]
    count = sum(map(len, groups))
    return Finding(name, count, "examples", ids, notes, detail)


def _splits(group: Iterable[Row]) -> set[str | None]:
    return {row.split for row in group}


def _groups(groups: list[list[Row]]) -> str:
    return f"in {len(groups):,} group{'s' * (len(groups) != 1)}"


def _between(groups: list[list[Row]]) -> str:
    kinds = Counter("+".join(split for split in ("train", "valid", "test") if split in _splits(one)) for one in groups)
    return f"{_groups(groups)}: " + ", ".join(f"{count:,} in {kind}" for kind, count in sorted(kinds.items()))
