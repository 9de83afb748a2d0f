"""From a source to the example table: list, limit, deal, read, write."""

from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from flowerml import examples, split
from flowerml.archive import shown
from flowerml.errors import DataError, InputError
from flowerml.examples import Example
from flowerml.layout import Row
from flowerml.parallel import ordered_map
from flowerml.sources import category_names, check_names, split_table
from flowerml.tasks import Pipeline

MOST_SKIPPED = 10_000  # in the report: a folder of a million other things should not make it unreadable


def extract(pipeline: Pipeline) -> dict[str, Any]:
    """Write the example table and give the report: counts per split and class, and what was left out and why.

    Examples that cannot be read are left out. Raises DataError when what remains cannot be learned from; then
    nothing is written.
    """
    source, data = pipeline.paths.archive, pipeline.data
    table = split_table(pipeline.paths.split_table)
    listing = pipeline.task.listing(source, data, labelled=table is None or not table.has_labels)
    if table:
        listing = table.applied(listing)
    rows = split.limited(listing.rows, limit=data.limit, seed=data.seed)
    rows = split.deal(rows, valid=data.split.valid, test=data.split.test, seed=data.seed)
    names = category_names(pipeline.paths.category_names)
    check_names(names, sorted({row.label for row in rows}), pipeline.paths.category_names)
    skipped = list(listing.skipped)
    kept: list[Row] = []
    examples.write(pipeline.paths.examples, _read(pipeline, rows, kept, skipped), raw=pipeline.task.RAW)
    counts = split.check(kept)
    return {
        "counts": {name: sum(part.values()) for name, part in counts.items()},
        "classes": counts,
        "warnings": listing.warnings,
        "left_out": len(skipped),
        "skipped": skipped[:MOST_SKIPPED],
    }


def _read(pipeline: Pipeline, rows: list[Row], kept: list[Row], skipped: list[dict[str, str]]) -> Iterator[Example]:
    """The examples that can be read, in the order of the source; notes in `kept` and `skipped` which they are.

    Raises DataError at the end, before the table is in its place, where what was kept cannot be learned from.
    """
    by_id = {row.id: row for row in rows}
    contents = pipeline.task.contents(pipeline.paths.archive, pipeline.data, set(by_id))

    def read(item: tuple[str, bytes]) -> tuple[Row, Any]:
        row, content = by_id[item[0]], item[1]
        try:
            return row, pipeline.task.read(content, pipeline.data)
        except InputError as error:
            return row, error

    for row, raw in tqdm(ordered_map(read, contents), total=len(rows), desc="extract", unit="example"):
        if isinstance(raw, InputError):
            skipped.append({"id": row.id, "reason": raw.message})
        else:
            kept.append(row)
            assert row.split is not None
            yield Example(row.id, row.split, row.label, raw)
    try:
        split.check(kept, classes={row.label for row in rows})
    except DataError as error:
        unread = f" ({len(skipped)} files were left out, the first: {shown(skipped[0]['id'])})" if skipped else ""
        raise DataError(f"{error}{unread}") from None


def summary(report: dict[str, Any]) -> str:
    """The report in a few lines for the terminal."""
    counts = ", ".join(f"{name} {count:,}" for name, count in report["counts"].items())
    lines = [f"{len(report['classes']['train'])} classes; {counts}"]
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    if report["left_out"]:
        lines.append(f"left out {report['left_out']:,}:")
        lines += [f"  {shown(one['id'])}: {one['reason']}" for one in report["skipped"][:5]]
        if report["left_out"] > 5:
            lines.append("  …")
    return "\n".join(lines)
