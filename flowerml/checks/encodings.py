"""What shows once there are encodings: likely label errors, and examples that a network takes for the same."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowerml.checks import copies, labels
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Key
from flowerml.data.findings import Finding, to_sorted_json
from flowerml.data.layout import Row
from flowerml.tasks.base import Task

BLOCK = 512
MOST = 100_000  # rows whose every pair is looked at


def findings(
    task: Task, section: Any, encoded: Encoded, names: Mapping[str, str], known: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What was found in the encodings and is not `known` from the raw inputs, the worst first, as plain data.

    `section` is `data.checks` of params.yaml, `names` are those of classes.
    """
    together = [group for one in known for group in one.get("groups", [])]
    return to_sorted_json(_findings(task, section, encoded, names, together))


def _findings(
    task: Task, section: Any, encoded: Encoded, names: Mapping[str, str], together: list[list[str]]
) -> Iterator[Finding]:
    columns = (encoded.table.column(name).to_pylist() for name in Key.__slots__)
    keys = [Key(*values) for values in zip(*columns, strict=True)]
    vectors = task.vectors(encoded)
    wrong = labels.finding(keys, vectors, names)
    if wrong:
        yield wrong
    if section.near_cosine is not None and len(keys) <= MOST:
        rows = [Row(key.id, key.label, key.split) for key in keys]
        told = {frozenset(pair) for group in together for pair in combinations(group, 2)}
        pairs = (
            (one, other)
            for one, other in _alike(vectors, section.near_cosine)
            if frozenset((rows[one].id, rows[other].id)) not in told and keys[one].digest != keys[other].digest
        )
        yield from copies.findings(rows, copies.joined(pairs), exact=False, means="by their encodings")


def _alike(vectors: NDArray[np.float32], cosine: float) -> Iterable[tuple[int, int]]:
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK] @ vectors[start:].T
        for one, other in np.argwhere(block >= cosine):
            if one < other:
                yield int(one) + start, int(other) + start
