"""Stage `extract`: data/<pipeline>/archive -> examples.parquet and checks.json.

List the source, limit each class, assign splits, read the rows, write the table.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from flowerml.checks import classes, dealing, page
from flowerml.checks.collect import DataSummary
from flowerml.config.pipeline import Pipeline
from flowerml.core import files, progress
from flowerml.core.display import printable
from flowerml.core.errors import DataError, InputError
from flowerml.data import examples, findings, split
from flowerml.data.examples import Example, Raw
from flowerml.data.layout import Listing, Row, skipped_summary
from flowerml.data.names import category_names, check_names
from flowerml.data.split_table import split_table
from flowerml.engine.parallel import ordered_map
from flowerml.tasks.records import Inspection
from flowerml.tasks.registry import task_of

SHOWN_CLASSES = 10  # in a summary
MAX_SKIPPED = 10_000  # in the report, which should stay readable for a folder of a million other files

Report = dict[str, Any]


def run(pipeline: Pipeline) -> Report:
    """Read a pipeline's data into one table of examples; write and return the report.

    The report has the counts by split and class, the skipped examples with the reasons, and the findings. Unreadable
    examples are skipped. Raises DataError if the remaining ones cannot be learned from; then nothing is written. Raises
    ChecksError for a finding named in `data.checks.fail_on`; then the report and its page are written, but no table.
    """
    data, task = pipeline.data, task_of(pipeline)
    result: Report = {}
    listing = list_source(pipeline)
    rows = split.limit_per_class(listing.rows, limit=data.limit, seed=data.seed)
    rows = dealing.deal(task, pipeline.paths.archive, data, rows)
    names = category_names(pipeline.paths.category_names)
    check_names(names, sorted({row.label for row in rows}), pipeline.paths.category_names)
    data_summary, skipped = DataSummary(task, data.checks), list(listing.skipped)

    def checked() -> Iterator[Example]:
        """Yield the examples, then check all of them: an error here keeps the table from being put in place."""
        for row, raw in read_rows(pipeline, rows, data_summary, skipped):
            assert row.split is not None
            yield Example(row.id, row.split, row.label, raw)
        _check(data_summary.rows, rows, skipped)
        all_findings = data_summary.findings(rows, empty_folders(pipeline, listing))
        result.update(make_report(listing, data_summary.rows, skipped, all_findings))
        _raise_failing(pipeline, result)

    examples.write(pipeline.paths.examples, checked(), raw=task.RAW)
    files.write_json(pipeline.paths.checks, result)
    return result


def list_source(pipeline: Pipeline) -> Listing:
    """Return the examples that the fetched source holds, with the splits of its split table; raises DataError."""
    table = split_table(pipeline.paths.split_table)
    listing = task_of(pipeline).listing(
        pipeline.paths.archive, pipeline.data, labelled=table is None or not table.has_labels
    )
    return table.apply(listing) if table else listing


def read_rows(
    pipeline: Pipeline, rows: list[Row], summary: DataSummary, skipped: list[dict[str, str]]
) -> Iterator[tuple[Row, Raw]]:
    """Yield the readable rows with their raw inputs, in the order of the source.

    All rows are inspected and added to `summary`; unreadable ones are also added to `skipped`.
    """
    task, data = task_of(pipeline), pipeline.data
    by_id = {row.id: row for row in rows}
    contents = task.contents(pipeline.paths.archive, pipeline.data, set(by_id))

    def read(item: tuple[str, bytes]) -> tuple[Row, Raw | InputError, Inspection | str]:
        row, content = by_id[item[0]], item[1]
        try:
            raw = task.read(content, data)
        except InputError as error:
            return row, error, task.classify_error(row.id, content, error)
        return row, raw, task.inspect(row.id, raw, data)

    for row, raw, seen in progress.bar(ordered_map(read, contents), total=len(rows), desc="extract", unit="example"):
        if isinstance(raw, InputError):
            skipped.append({"id": row.id, "reason": raw.message})
            summary.add_unreadable(row, str(seen), raw.message)
        else:
            assert isinstance(seen, Inspection)
            summary.add(row, seen)
            yield row, raw


def raws(pipeline: Pipeline, ids: set[str]) -> Iterator[tuple[str, Raw]]:
    """Yield (id, raw input) for these ids, without those that cannot be read from the source."""
    known = {row.id for row in list_source(pipeline).rows}
    for id, content in task_of(pipeline).contents(pipeline.paths.archive, pipeline.data, ids & known):
        with suppress(InputError):
            yield id, task_of(pipeline).read(content, pipeline.data)


def empty_folders(pipeline: Pipeline, listing: Listing) -> set[str]:
    """Return the names of the class folders that hold no example."""
    skipped = [skip["id"] for skip in listing.skipped]
    return classes.empty_folders(pipeline.paths.archive, listing.rows, skipped, task_of(pipeline).SUFFIXES)


def make_report(
    listing: Listing, kept: list[Row], skipped: list[dict[str, str]], findings: list[dict[str, Any]]
) -> Report:
    """Return the content of checks.json."""
    counts = split.count_by_split(kept)
    return {
        "counts": {name: sum(part.values()) for name, part in counts.items()},
        "classes": counts,
        "warnings": listing.warnings,
        "left_out": len(skipped),
        "skipped": skipped[:MAX_SKIPPED],
        "findings": findings,
    }


def _check(kept: list[Row], rows: list[Row], skipped: list[dict[str, str]]) -> None:
    try:
        split.check(kept, classes={row.label for row in rows})
    except DataError as error:
        unreadable = (
            f" ({len(skipped)} files were skipped, the first: {printable(skipped[0]['id'])})" if skipped else ""
        )
        raise DataError(f"{error}{unreadable}") from None


def _raise_failing(pipeline: Pipeline, report: Report) -> None:
    failing = findings.failing(report["findings"], pipeline.data.checks.fail_on)
    if failing:
        paths = pipeline.paths
        files.write_json(paths.checks, report)
        page.write(paths.data_page, pipeline.name, report, task=task_of(pipeline), raws=partial(raws, pipeline))
        raise findings.ChecksError(failing, f"data.checks.fail_on stops here; more: {paths.checks}, {paths.data_page}")


def summary(report: Report) -> str:
    """Return a few lines of the report for the terminal."""
    lines = overview(report)
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    lines += [f"{finding['severity']}: {finding['name']}: {finding['text']}" for finding in report["findings"]]
    return "\n".join(lines)


def overview(report: Report) -> list[str]:
    """Return lines on what was read: the classes with their counts in each split, and what was left out.

    >>> report = {"counts": {"train": 3, "valid": 0}, "classes": {"train": {"lily": 1, "rose": 2}}, "left_out": 0}
    >>> print(*overview(report), sep="\\n")
    2 classes; train 3, valid 0
      lily: train 1
      rose: train 2
    """
    labels = sorted({label for counts in report["classes"].values() for label in counts})
    counts = ", ".join(f"{name} {count:,}" for name, count in report["counts"].items())
    lines = [f"{len(labels)} class{'es' * (len(labels) != 1)}; {counts}"]
    for label in labels[:SHOWN_CLASSES]:
        of_class = ((name, part.get(label, 0)) for name, part in report["classes"].items() if part)
        lines.append(f"  {printable(label)}: {', '.join(f'{name} {count:,}' for name, count in of_class)}")
    if len(labels) > SHOWN_CLASSES:
        lines.append(f"  … and {len(labels) - SHOWN_CLASSES:,} more")
    if report["left_out"]:
        lines.append(skipped_summary(report["skipped"], total=report["left_out"]))
    return lines
