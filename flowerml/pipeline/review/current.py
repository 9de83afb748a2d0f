"""Whether the examples, checks and encodings of a pipeline are those of its data as they are, and making them."""

import os
from pathlib import Path

from flowerml.config.pipeline import Pipeline
from flowerml.core import files
from flowerml.data import split
from flowerml.data.examples import Examples
from flowerml.data.layout import Listing, Row
from flowerml.data.split_table import split_table
from flowerml.pipeline import extract
from flowerml.tasks.registry import task_of


def listings(pipeline: Pipeline) -> tuple[Listing, Listing]:
    """Return the listing of a source, and the same with the values of its table of splits."""
    table = split_table(pipeline.paths.split_table)
    labelled = table is None or not table.has_labels
    source = task_of(pipeline).listing(pipeline.paths.archive, pipeline.data, labelled=labelled)
    return source, table.apply(source) if table else source


def rows_of(path: Path) -> dict[str, Row]:
    """Return the examples of a table by id."""
    return {key.id: Row(key.id, key.label, key.split) for key in Examples(path).keys(*split.SPLITS)}


def is_current(pipeline: Pipeline) -> bool:
    """Return whether the examples, checks and encodings of a pipeline are there, and those of its source as it is."""
    paths = pipeline.paths
    outputs = (paths.split_table, paths.examples, paths.checks, paths.encoded_checks)
    if not paths.archive.exists() or not all(path.exists() for path in outputs):
        return False
    if _newest(paths.archive) > paths.encoded_checks.stat().st_mtime:
        return False
    _, listing = listings(pipeline)
    listed = split.limit_per_class(listing.rows, limit=pipeline.data.limit, seed=pipeline.data.seed)
    labels, rows = {row.id: row.label for row in listed}, rows_of(paths.examples)
    unreadable = files.read_json(paths.checks)["left_out"] - len(listing.skipped)
    same = all(labels.get(row.id) == row.label for row in rows.values())
    return same and len(labels) == len(rows) + unreadable


def _newest(path: Path) -> float:
    """Return when a file, or any file or folder in a folder, was changed last."""
    path = path.resolve()
    inner = (Path(folder, name) for folder, folders, names in os.walk(path) for name in (*folders, *names))
    return max(each.lstat().st_mtime for each in (path, *inner))


def check_data(pipeline: Pipeline) -> None:
    """Write the examples, the findings in them, and the encodings, which show likely label errors."""
    from flowerml.pipeline import backbones, encode  # torch takes seconds to import, and mostly they are there

    extract.run(pipeline)
    backbones.offer(pipeline)
    encode.run(pipeline)
