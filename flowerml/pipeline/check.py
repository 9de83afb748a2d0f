"""All checks on any labelled data, for `flowerml check`. They write nothing, and no finding stops them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowerml.checks import dealing, encodings
from flowerml.checks.collect import DataSummary
from flowerml.checks.page import Raws
from flowerml.config.defaults import defaults
from flowerml.config.dotted import set_by_dotted_name
from flowerml.config.params import Data
from flowerml.config.pipeline import Pipeline
from flowerml.core.errors import DataError
from flowerml.data import findings, split
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Examples, Raw
from flowerml.data.findings import Finding
from flowerml.data.layout import Listing, Row
from flowerml.data.names import category_names
from flowerml.evaluation import labelled
from flowerml.pipeline import extract
from flowerml.tasks.pipelines import checked_pipeline
from flowerml.tasks.registry import task_of

MIN_PER_CLASS = 3  # examples: one for each split


@dataclass(frozen=True)
class Survey:
    """The report, with the content of checks.json, and a function that reads raw inputs by their ids."""

    pipeline: Pipeline
    report: extract.Report
    raws: Raws


def from_pipeline(pipeline: Pipeline) -> Survey:
    """Return the findings in a fetched source. Raises DataError if it has no example."""
    data, task = pipeline.data, task_of(pipeline)
    listing = extract.list_source(pipeline)
    rows = split.limit_per_class(listing.rows, limit=data.limit, seed=data.seed)
    rows, reasons = _assign_splits(rows, data, dealing.copies(task, pipeline.paths.archive, data, rows))
    summary, skipped = DataSummary(task, data.checks), list(listing.skipped)
    for _ in extract.read_rows(pipeline, rows, summary, skipped):
        pass
    reasons += _split_errors(summary.rows, rows) if not reasons else []
    folders = extract.empty_folders(pipeline, listing)
    refused = [Finding("refused", 1, "", detail=reason) for reason in reasons]
    report = extract.make_report(listing, summary.rows, skipped, summary.findings(rows, folders, refused))

    def raws(ids: set[str]) -> Iterator[tuple[str, Raw]]:
        return extract.raws(pipeline, ids)

    return Survey(pipeline, report, raws)


def from_table(path: Path, values: Mapping[str, Any]) -> Survey:
    """Return the findings in an example table, and in its encodings if they are in the same folder."""
    kind = labelled.kind_of_table(path)
    sections = defaults(kind).sections
    set_by_dotted_name(sections, values)
    pipeline = checked_pipeline(path.stem, kind, sections, path=Path("options"))
    task, table = task_of(pipeline), Examples(path)
    summary = DataSummary(task, pipeline.data.checks)
    for example in table:
        row = Row(example.id, example.label, example.split)
        summary.add(row, task.inspect(example.id, example.raw, pipeline.data))
    all_findings = summary.findings(summary.rows, [])
    if path.with_name("encoded.arrow").exists():
        encoded, names = Encoded.read(path.with_name("encoded.arrow")), path.with_name("category_names.json")
        known = category_names(names) if names.is_file() else {}
        all_findings += encodings.findings(task, pipeline.data.checks, encoded, known, all_findings)

    def raws(ids: set[str]) -> Iterator[tuple[str, Raw]]:
        return ((example.id, example.raw) for example in table.of(*split.SPLITS, where=lambda key: key.id in ids))

    return Survey(pipeline, extract.make_report(Listing(), summary.rows, [], findings.by_severity(all_findings)), raws)


def _assign_splits(rows: list[Row], data: Data, copies: dealing.Copies) -> tuple[list[Row], list[str]]:
    """Return the rows with the splits of `extract`, and its error, if any; classes that are too small go to train."""
    try:
        return dealing.deal_copies(data, rows, copies), []
    except DataError as error:
        reason = str(error)
    sizes = Counter(row.label for row in rows)
    small = [replace(row, split=row.split or "train") for row in rows if sizes[row.label] < MIN_PER_CLASS]
    try:
        large = [row for row in rows if sizes[row.label] >= MIN_PER_CLASS]
        return dealing.deal_copies(data, large, copies) + small, [reason]
    except DataError:
        return rows, [reason]


def _split_errors(kept: list[Row], rows: list[Row]) -> list[str]:
    try:
        split.check(kept, classes={row.label for row in rows})
    except DataError as error:
        return [str(error)]
    return []
