"""Labelled examples from any source to evaluate a classifier on: chosen by their keys, then read one at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flowerml.checks import dealing
from flowerml.config.params import Data
from flowerml.config.paths import Paths
from flowerml.core.errors import DataError, InputError
from flowerml.data import split
from flowerml.data.examples import Examples, Raw, is_examples
from flowerml.data.layout import Row, skipped_summary
from flowerml.data.split_table import split_table
from flowerml.tasks.registry import TASKS

ALL = "all"


@dataclass(frozen=True)
class LabelledExamples:
    """The chosen rows of a source, and `read`, which yields each with its raw input or the reason it is unreadable.

    `kind` is the task's, `split` the split of the rows or `all`; `warnings` are sentences about the source.
    """

    kind: str
    rows: list[Row]
    split: str
    warnings: list[str]
    read: Callable[[], Iterator[tuple[Row, Raw | InputError]]]

    @property
    def labels(self) -> list[str]:
        """Return the distinct labels, sorted."""
        return sorted({row.label for row in self.rows})


def from_source(
    kind: str, paths: Paths, data: Data, wanted: str | None, *, dealt: bool, limit: int | None
) -> LabelledExamples:
    """Return the examples of one split of a fetched source; `wanted` None is `test`, or all where there are no splits.

    With `dealt`, missing splits are dealt as `extract` would. At most `limit` of each class are taken.
    Raises DataError where there are none.
    """
    task, source = TASKS[kind], paths.archive
    table = split_table(paths.split_table)
    listing = task.listing(source, data, labelled=table is None or not table.has_labels)
    if table:
        listing = table.apply(listing)
    rows = split.limit_per_class(listing.rows, limit=data.limit, seed=data.seed)
    if dealt:
        rows = dealing.deal(task, source, data, rows)
    rows, name = _choose(rows, wanted, source.resolve())
    rows = split.limit_per_class(rows, limit=limit, seed=data.seed)

    def read() -> Iterator[tuple[Row, Raw | InputError]]:
        by_id = {row.id: row for row in rows}
        for id, content in task.contents(source, data, set(by_id)):
            try:
                yield by_id[id], task.from_bytes(content)
            except InputError as error:
                yield by_id[id], error

    left_out = skipped_summary(listing.skipped)
    return LabelledExamples(kind, rows, name, [*listing.warnings, *([left_out] if left_out else [])], read)


def from_table(path: Path, wanted: str | None, *, limit: int | None) -> LabelledExamples:
    """Return the examples of one split of an example table, such as data/flowers/examples.parquet.

    `wanted`, `limit` and errors as in `from_source`.
    """
    table = Examples(path)
    rows = [Row(key.id, key.label, key.split) for key in table.keys(*split.SPLITS)]
    rows, name = _choose(rows, wanted, path)
    rows = split.limit_per_class(rows, limit=limit, seed=0)
    by_id = {row.id: row for row in rows}

    def read() -> Iterator[tuple[Row, Raw | InputError]]:
        chosen = table.of(*split.SPLITS, where=lambda key: key.id in by_id)
        return ((by_id[example.id], example.raw) for example in chosen)

    return LabelledExamples(kind_of_table(path), rows, name, [], read)


def is_table(path: Path) -> bool:
    """Return whether this is an example table: Parquet, a file or a folder of parts, with the columns of one."""
    return is_examples(path)


def kind_of_table(path: Path) -> str:
    """Return the kind of the task whose raw inputs have the type of the table's column `raw`."""
    raw_type = Examples(path).raw
    return next(kind for kind, task in TASKS.items() if raw_type is task.RAW)


def _choose(rows: list[Row], wanted: str | None, source: Path) -> tuple[list[Row], str]:
    """Return the rows of the wanted split, and its name."""
    splits = sorted({row.split for row in rows if row.split is not None}, key=split.SPLITS.index)
    if wanted is None:
        wanted = "test" if splits else ALL
    chosen = [row for row in rows if wanted in (ALL, row.split)]
    if not chosen:
        has = f"it has {', '.join(splits)}" if splits else "it has no splits"
        raise DataError(f"{source}: no examples of the split {wanted}; {has}: pass another --split, or --split {ALL}")
    return chosen, wanted
