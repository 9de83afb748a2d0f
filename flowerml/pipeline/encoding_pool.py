"""Encoding by workers in other processes: the driver sends examples and receives rows, in their order.

Each example crosses the wire once. Files of blocks on a shared disk would save that, but not every cluster has one, and
on one machine the pipe takes 10 ms of the two seconds that a block of pictures takes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowerml.config.params import Section
from flowerml.core.errors import FlowermlError
from flowerml.data.encodings import Row
from flowerml.data.examples import Example
from flowerml.engine.executors import Place, Shared, machine_facts, open_pool, ordered
from flowerml.tasks.base import Encoder
from flowerml.tasks.registry import TASKS

AHEAD = 2  # blocks of each worker that are in memory: one in work, one that waits
FACTORY = f"{__name__}:BlockEncoder"

Ragged = tuple[NDArray[np.int64], NDArray[Any]]
"""The lengths of rows [N], and their values in a row [M] or [M, D]."""


@dataclass(frozen=True)
class Task:
    """Examples to encode, and what is known of their encodings, by their digests."""

    examples: list[Example]
    known: Mapping[str, Row]


class BlockEncoder:
    """A worker's encoder. Raises FlowermlError where its encodings would not be those of the driver."""

    def __init__(self, kind: str, folder: Shared, section: Mapping[str, Any], fingerprints: Mapping[str, str]) -> None:
        task = TASKS[kind]
        self._section = task.section_types().encode.model_validate(section)
        self._encoder: Encoder[Any, Any, Any] = task.Encoder.load(folder.path())
        # Not only the machine's facts: encodings are reused for as long as the fingerprint is the same.
        if any(self._encoder.fingerprint(self._section, split) != value for split, value in fingerprints.items()):
            raise FlowermlError(
                "a worker would give other encodings than this machine (other packages, or a processor that rounds "
                "differently); use like machines, or encode without workers"
            )

    def encode(self, task: Task) -> dict[str, Ragged]:
        """Return the encodings of a task's examples, column by column."""
        known = task.known
        rows = list(
            self._encoder.encode(task.examples, self._section, known=lambda digest: known.get(digest, {}))
            if known
            else self._encoder.encode(task.examples, self._section)
        )
        return {name: _joined([row[name] for row in rows]) for name in rows[0]}


@dataclass(frozen=True)
class Workers:
    """Where and with what workers encode; `kind` is the task's."""

    place: Place
    kind: str

    def encode(
        self,
        tasks: Iterable[Task],
        encoder: Encoder[Any, Any, Any],
        section: Section,
        fingerprints: Mapping[str, str],
        folder: Path,
    ) -> Iterator[Row]:
        """Yield the encodings of the examples of all tasks, in order. `folder` is where the encoder is put for workers.

        Without a task, no worker is started.
        """
        iterator = iter(tasks)
        first = next(iterator, None)
        if first is None:
            return
        encoder.save(folder)
        with open_pool(self.place, threads=threads_of(self.place), facts=machine_facts()) as pool:
            arguments = (self.kind, pool.share(folder), section.model_dump(), dict(fingerprints))
            tasks = chain([first], iterator)
            with closing(ordered(pool, FACTORY, arguments, "encode", tasks, ahead=AHEAD * pool.size)) as results:
                for columns in results:
                    yield from _rows(columns)


def threads_of(place: Place, cores: Callable[[], int | None] = os.cpu_count) -> int:
    """Return the threads of each worker: its share of this machine's cores, or one in a cluster."""
    return max(1, (cores() or 1) // place.workers) if place.engine == "local" else 1


def _joined(values: list[NDArray[Any]]) -> Ragged:
    return np.array([len(value) for value in values], np.int64), np.concatenate(values)


def _rows(columns: Mapping[str, Ragged]) -> Iterator[Row]:
    """Yield the rows of columns, as views."""
    parts = {name: np.split(values, np.cumsum(lengths)[:-1]) for name, (lengths, values) in columns.items()}
    for row in zip(*parts.values(), strict=True):
        yield dict(zip(parts, row, strict=True))
