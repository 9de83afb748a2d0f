"""All checks of any labelled data, for `flowerml check`: nothing is written, and no finding stops them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowerml.checks import encodings
from flowerml.checks.collect import DataSummary
from flowerml.checks.page import Raws
from flowerml.config.defaults import defaults
from flowerml.config.dotted import set_by_dotted_name
from flowerml.config.params import Data
from flowerml.config.pipeline import Pipeline
from flowerml.core.errors import DataError
from flowerml.data import findings, split
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Examples
from flowerml.data.findings import Finding
from flowerml.data.layout import Listing, Row
from flowerml.data.names import category_names
from flowerml.evaluation import labelled
from flowerml.pipeline import extract
from flowerml.tasks.pipelines import checked_pipeline
from flowerml.tasks.registry import task_of

FEWEST = 3  # examples of a class, to be dealt into three splits


@dataclass(frozen=True)
class Survey:
    """The report as `checks.json` has it, and a reader of raw inputs by their ids."""

    pipeline: Pipeline
    report: dict[str, Any]
    raws: Raws


def from_pipeline(pipeline: Pipeline) -> Survey:
    """Return the findings in a fetched source. Raises DataError for one without any example."""
    data, task = pipeline.data, task_of(pipeline)
    listing = extract.listed(pipeline)
    rows = split.limit_per_class(listing.rows, limit=data.limit, seed=data.seed)
    rows, reasons = _dealt(rows, data)
    summary, skipped = DataSummary(task, data.checks), list(listing.skipped)
    for _ in extract.readable(pipeline, rows, summary, skipped):
        pass
    reasons += _refusals(summary.rows, rows) if not reasons else []
    folders = extract.empty_folders(pipeline, listing)
    refused = [Finding("refused", 1, "", detail=reason) for reason in reasons]
    report = extract.make_report(listing, summary.rows, skipped, summary.findings(rows, folders, refused))

    def raws(ids: set[str]) -> Iterator[tuple[str, Any]]:
        return extract.raws(pipeline, ids)

    return Survey(pipeline, report, raws)


def from_table(path: Path, values: Mapping[str, Any]) -> Survey:
    """Return the findings in an example table, and in the encodings where they are beside it."""
    kind = labelled.kind_of_table(path)
    sections = defaults(kind).sections
    set_by_dotted_name(sections, values)
    pipeline = checked_pipeline(path.stem, kind, sections, path=Path("options"))
    task, table = task_of(pipeline), Examples(path)
    summary = DataSummary(task, pipeline.data.checks)
    for example in table:
        row = Row(example.id, example.label, example.split)
        summary.add(row, task.inspect(example.id, example.raw, pipeline.data))
    found = summary.findings(summary.rows, [])
    if path.with_name("encoded.arrow").is_file():
        encoded, names = Encoded.read(path.with_name("encoded.arrow")), path.with_name("category_names.json")
        known = category_names(names) if names.is_file() else {}
        found += encodings.findings(task, pipeline.data.checks, encoded, known, found)

    def raws(ids: set[str]) -> Iterator[tuple[str, Any]]:
        return ((example.id, example.raw) for example in table.of(*split.SPLITS, where=lambda key: key.id in ids))

    return Survey(pipeline, extract.make_report(Listing(), summary.rows, [], findings.by_severity(found)), raws)


def _dealt(rows: list[Row], data: Data) -> tuple[list[Row], list[str]]:
    """Return the rows as `extract` would deal them, and why it refuses; then too small classes are in train."""
    shares: dict[str, Any] = {"valid": data.split.valid, "test": data.split.test, "seed": data.seed}
    try:
        return split.deal(rows, **shares), []
    except DataError as error:
        reason = str(error)
    sizes = Counter(row.label for row in rows)
    small = [replace(row, split=row.split or "train") for row in rows if sizes[row.label] < FEWEST]
    try:
        return split.deal([row for row in rows if sizes[row.label] >= FEWEST], **shares) + small, [reason]
    except DataError:
        return rows, [reason]


def _refusals(kept: list[Row], rows: list[Row]) -> list[str]:
    try:
        split.check(kept, classes={row.label for row in rows})
    except DataError as error:
        return [str(error)]
    return []
