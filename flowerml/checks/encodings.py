"""What encodings show: likely label errors, and examples that a network takes for the same."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from flowerml.checks import copies, labels
from flowerml.config.params import Checks
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Key
from flowerml.data.findings import Finding, to_sorted_json
from flowerml.data.layout import Row
from flowerml.tasks.base import Task

if TYPE_CHECKING:
    from flowerml.checks.labels import Vectors

BLOCK = 512  # rows that are compared with all others in one matrix product
MAX_ROWS = 100_000  # beyond it comparing all pairs takes too long, and only label errors are looked for


def findings(
    task: Task, section: Checks, encoded: Encoded, names: Mapping[str, str], known: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the findings in encodings that are not `known` from the raw inputs, the worst first, as plain data.

    `section` is `data.checks` of params.yaml, `names` are those of classes.
    """
    known_groups = [group for finding in known for group in finding.get("groups", [])]
    return to_sorted_json(_findings(task, section, encoded, names, known_groups))


def _findings(
    task: Task, section: Checks, encoded: Encoded, names: Mapping[str, str], known_groups: list[list[str]]
) -> Iterator[Finding]:
    columns = (encoded.table.column(name).to_pylist() for name in Key.__slots__)
    keys = [Key(*values) for values in zip(*columns, strict=True)]
    vectors = task.vectors(encoded)
    label_errors = labels.finding(keys, vectors, names)
    if label_errors:
        yield label_errors
    if section.near_cosine is not None and len(keys) <= MAX_ROWS:
        rows = [Row(key.id, key.label, key.split) for key in keys]
        known_pairs = {frozenset(pair) for group in known_groups for pair in combinations(group, 2)}
        pairs = (
            (first, second)
            for first, second in similar_pairs(vectors, section.near_cosine)
            if frozenset((rows[first].id, rows[second].id)) not in known_pairs
            and keys[first].digest != keys[second].digest
        )
        groups = copies.connected_groups(pairs)
        yield from copies.findings(rows, groups, exact=False, means="by their encodings")


def similar_pairs(vectors: "Vectors", cosine: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows, lower first, whose cosine reaches this one. vectors [N, D] are of length 1."""
    for start in range(0, vectors.shape[0], BLOCK):
        block = vectors[start : start + BLOCK] @ vectors[start:].T
        for first, second in np.transpose((block >= cosine).nonzero()):
            if first < second:
                yield int(first) + start, int(second) + start
