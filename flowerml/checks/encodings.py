"""What encodings show: likely label errors, and examples that a network takes for the same."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowerml.checks import copies, labels
from flowerml.checks.cosines import Allowed, similar_rows
from flowerml.config.params import Checks
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Key
from flowerml.data.findings import Finding, to_sorted_json
from flowerml.data.layout import Row
from flowerml.engine.similar import EXACT_ROWS, Pairs
from flowerml.tasks.base import Task


def findings(
    task: Task, section: Checks, encoded: Encoded, names: Mapping[str, str], known: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the findings in encodings that are not `known` from the raw inputs, the worst first, as plain data.

    `section` is `data.checks` of params.yaml, `names` are those of classes.
    """
    known_groups = [group for finding in known for group in finding.get("groups", [])]
    return to_sorted_json(_findings(task, section, encoded, names, known_groups))


def label_errors(task: Task, encoded: Encoded, names: Mapping[str, str], *, min_margin: float) -> list[dict[str, Any]]:
    """Return the likely label errors from another margin on, as plain data."""
    keys, vectors = _keys(encoded), task.vectors(encoded)
    if len(keys) <= EXACT_ROWS:
        vectors = vectors[:]
    return to_sorted_json(labels.findings(keys, vectors, names, min_margin=min_margin))


def _keys(encoded: Encoded) -> list[Key]:
    columns = (encoded.table.column(name).to_pylist() for name in Key.__slots__)
    return [Key(*values) for values in zip(*columns, strict=True)]


def _findings(
    task: Task, section: Checks, encoded: Encoded, names: Mapping[str, str], known_groups: list[list[str]]
) -> Iterator[Finding]:
    keys, vectors = _keys(encoded), task.vectors(encoded)
    if len(keys) <= EXACT_ROWS:
        vectors = vectors[:]  # both checks need all of them
    yield from labels.findings(keys, vectors, names)
    if section.near_cosine is not None:
        similar = similar_rows(vectors, section.near_cosine, unknown_pairs(keys, known_groups))
        rows = [Row(key.id, key.label, key.split) for key in keys]
        yield from copies.similar_findings(rows, similar, means="by their encodings")


def unknown_pairs(keys: Sequence[Key], known_groups: Iterable[Sequence[str]]) -> Allowed:
    """Return a function that says which pairs of rows [M, 2] are in no known group together and differ in content.

    Each row has the numbers of its groups. A set of all known pairs would be quadratic in the size of a group.
    """
    layers = [_codes([key.digest for key in keys]), *_layers([key.id for key in keys], known_groups)]

    def unknown(pairs: Pairs) -> NDArray[np.bool_]:
        allowed = np.ones(len(pairs), dtype=bool)
        for groups in layers:
            first, second = groups[pairs].T
            allowed &= (first != second) | (first < 0)
        return allowed

    return unknown


def _codes(values: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for each value, the same for equal ones, [N]."""
    codes: dict[str, int] = {}
    return np.fromiter((codes.setdefault(value, len(codes)) for value in values), np.int64, len(values))


def _layers(ids: Sequence[str], groups: Iterable[Sequence[str]]) -> list[NDArray[np.int64]]:
    """Return arrays of each row's group number or -1, [N]; groups that share a row are in different arrays."""
    index = {id: row for row, id in enumerate(ids)}
    layers: list[NDArray[np.int64]] = []
    for number, group in enumerate(groups):
        rows = [index[id] for id in group if id in index]
        if len(rows) > 1:
            free = next((layer for layer in layers if (layer[rows] < 0).all()), None)
            if free is None:
                free = np.full(len(ids), -1)
                layers.append(free)
            free[rows] = number
    return layers
