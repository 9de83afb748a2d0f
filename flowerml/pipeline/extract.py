"""From a source to the example table: list, limit, deal, read, write."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from tqdm import tqdm

from flowerml.checks import classes, page
from flowerml.checks.collect import Gathered
from flowerml.core import files
from flowerml.core.display import printable
from flowerml.core.errors import DataError, InputError
from flowerml.data import examples, split
from flowerml.data import findings as finding
from flowerml.data.examples import Example, Raw
from flowerml.data.layout import Listing, Row
from flowerml.engine.parallel import ordered_map
from flowerml.pipeline.download import category_names, check_names, split_table
from flowerml.tasks.facts import Facts
from flowerml.tasks.registry import Pipeline

MOST_SKIPPED = 10_000  # in the report: a folder of a million other things should not make it unreadable

Report = dict[str, Any]


def extract(pipeline: Pipeline) -> dict[str, Any]:
    """Write the example table and give the report: counts per split and class, what was left out and why, findings.

    Examples that cannot be read are left out. Raises DataError when what remains cannot be learned from; then
    nothing is written. Raises ChecksError where something is found that `data.checks.fail_on` names; then the report
    and its page are written, and no table.
    """
    data, told = pipeline.data, Report()
    listing = listed(pipeline)
    rows = split.limited(listing.rows, limit=data.limit, seed=data.seed)
    rows = split.deal(rows, valid=data.split.valid, test=data.split.test, seed=data.seed)
    names = category_names(pipeline.paths.category_names)
    check_names(names, sorted({row.label for row in rows}), pipeline.paths.category_names)
    gathered, skipped = Gathered(pipeline.task, data.checks), list(listing.skipped)

    def checked() -> Iterator[Example]:
        """The examples; it ends with an error, before the table is in its place, where they are not to be used."""
        for row, raw in readable(pipeline, rows, gathered, skipped):
            assert row.split is not None
            yield Example(row.id, row.split, row.label, raw)
        _check(gathered.rows, rows, skipped)
        found = gathered.findings(rows, empty_folders(pipeline, listing))
        told.update(report(listing, gathered.rows, skipped, found))
        _stop(pipeline, told)

    examples.write(pipeline.paths.examples, checked(), raw=pipeline.task.RAW)
    return told


def listed(pipeline: Pipeline) -> Listing:
    """What the fetched source holds, with what the table of splits says of it; raises DataError."""
    table = split_table(pipeline.paths.split_table)
    listing = pipeline.task.listing(
        pipeline.paths.archive, pipeline.data, labelled=table is None or not table.has_labels
    )
    return table.applied(listing) if table else listing


def readable(
    pipeline: Pipeline, rows: list[Row], gathered: Gathered, skipped: list[dict[str, str]]
) -> Iterator[tuple[Row, Raw]]:
    """The rows that can be read with their raw inputs, in the order of the source.

    Notes in `gathered` what is seen of them, and there and in `skipped` which cannot be read.
    """
    by_id = {row.id: row for row in rows}
    contents = pipeline.task.contents(pipeline.paths.archive, pipeline.data, set(by_id))

    def read(item: tuple[str, bytes]) -> tuple[Row, Raw | InputError, Facts | str]:
        row, content = by_id[item[0]], item[1]
        try:
            raw = pipeline.task.read(content, pipeline.data)
        except InputError as error:
            return row, error, pipeline.task.fault(row.id, content, error)
        return row, raw, pipeline.task.facts(row.id, raw, pipeline.data)

    for row, raw, seen in tqdm(ordered_map(read, contents), total=len(rows), desc="extract", unit="example"):
        if isinstance(raw, InputError):
            skipped.append({"id": row.id, "reason": raw.message})
            gathered.refuse(row, str(seen), raw.message)
        else:
            assert isinstance(seen, Facts)
            gathered.add(row, seen)
            yield row, raw


def raws(pipeline: Pipeline, ids: set[str]) -> Iterator[tuple[str, Raw]]:
    """Of these ids those that can be read, with their raw inputs, from the source."""
    known = {row.id for row in listed(pipeline).rows}
    for id, content in pipeline.task.contents(pipeline.paths.archive, pipeline.data, ids & known):
        with suppress(InputError):
            yield id, pipeline.task.read(content, pipeline.data)


def empty_folders(pipeline: Pipeline, listing: Listing) -> set[str]:
    """The names of class folders of the source that hold no example."""
    skipped = [one["id"] for one in listing.skipped]
    return classes.empty_folders(pipeline.paths.archive, listing.rows, skipped, pipeline.task.SUFFIXES)


def report(listing: Listing, kept: list[Row], skipped: list[dict[str, str]], findings: list[dict[str, Any]]) -> Report:
    """What `checks.json` holds."""
    counts = split.counted(kept)
    return {
        "counts": {name: sum(part.values()) for name, part in counts.items()},
        "classes": counts,
        "warnings": listing.warnings,
        "left_out": len(skipped),
        "skipped": skipped[:MOST_SKIPPED],
        "findings": findings,
    }


def _check(kept: list[Row], rows: list[Row], skipped: list[dict[str, str]]) -> None:
    try:
        split.check(kept, classes={row.label for row in rows})
    except DataError as error:
        unread = f" ({len(skipped)} files were left out, the first: {printable(skipped[0]['id'])})" if skipped else ""
        raise DataError(f"{error}{unread}") from None


def _stop(pipeline: Pipeline, told: Report) -> None:
    stopping = finding.stopping(told["findings"], pipeline.data.checks.fail_on)
    if stopping:
        paths = pipeline.paths
        files.write_json(paths.checks, told)
        page.write(paths.data_page, pipeline.name, told, task=pipeline.task, raws=partial(raws, pipeline))
        raise finding.ChecksError(stopping, f"data.checks.fail_on stops here; more: {paths.checks}, {paths.data_page}")


def summary(report: Report) -> str:
    """The report in a few lines for the terminal."""
    counts = ", ".join(f"{name} {count:,}" for name, count in report["counts"].items())
    lines = [f"{len(report['classes']['train'])} classes; {counts}"]
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    lines += [f"{one['severity']}: {one['name']}: {one['text']}" for one in report["findings"]]
    if report["left_out"]:
        lines.append(f"left out {report['left_out']:,}:")
        lines += [f"  {printable(one['id'])}: {one['reason']}" for one in report["skipped"][:5]]
        if report["left_out"] > 5:
            lines.append("  …")
    return "\n".join(lines)
