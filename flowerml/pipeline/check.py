"""All checks of any labelled data, for `flowerml check`: nothing is written, and nothing stops them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowerml.checks import encodings
from flowerml.checks.collect import Gathered
from flowerml.checks.page import Raws
from flowerml.core.errors import DataError
from flowerml.data import findings, split
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Examples
from flowerml.data.findings import Finding
from flowerml.data.layout import Listing, Row
from flowerml.evaluation import labelled
from flowerml.pipeline import adhoc, download, extract
from flowerml.tasks import registry
from flowerml.tasks.registry import Pipeline

FEWEST = 3  # examples of a class that is to be dealt into three splits


@dataclass(frozen=True)
class Survey:
    """What was found: the report as `checks.json` has it, and what reads raw inputs by their ids."""

    pipeline: Pipeline
    report: dict[str, Any]
    raws: Raws


def of_pipeline(pipeline: Pipeline) -> Survey:
    """The findings in a fetched source. Raises DataError for one without any example."""
    data = pipeline.data
    listing = extract.listed(pipeline)
    rows = split.limited(listing.rows, limit=data.limit, seed=data.seed)
    rows, reasons = _dealt(rows, data)
    gathered, skipped = Gathered(pipeline.task, data.checks), list(listing.skipped)
    for _ in extract.readable(pipeline, rows, gathered, skipped):
        pass
    reasons += _refusals(gathered.rows, rows) if not reasons else []
    folders = extract.empty_folders(pipeline, listing)
    refused = [Finding("refused", 1, "", detail=reason) for reason in reasons]
    report = extract.report(listing, gathered.rows, skipped, gathered.findings(rows, folders, refused))

    def raws(ids: set[str]) -> Iterator[tuple[str, Any]]:
        return extract.raws(pipeline, ids)

    return Survey(pipeline, report, raws)


def of_table(path: Path, values: Mapping[str, Any]) -> Survey:
    """The findings in an example table, and in the encodings where they are beside it."""
    kind = labelled.kind_of_table(path)
    sections = adhoc.defaults(kind).sections
    adhoc.put(sections, values)
    pipeline = registry.checked(path.stem, kind, sections, path=Path("options"))
    table, gathered = Examples(path), Gathered(pipeline.task, pipeline.data.checks)
    for example in table:
        row = Row(example.id, example.label, example.split)
        gathered.add(row, pipeline.task.facts(example.id, example.raw, pipeline.data))
    found = gathered.findings(gathered.rows, [])
    if path.with_name("encoded.arrow").is_file():
        encoded, names = Encoded.read(path.with_name("encoded.arrow")), path.with_name("category_names.json")
        known = download.category_names(names) if names.is_file() else {}
        found += encodings.findings(pipeline.task, pipeline.data.checks, encoded, known, found)

    def raws(ids: set[str]) -> Iterator[tuple[str, Any]]:
        return ((one.id, one.raw) for one in table.of(*split.SPLITS, where=lambda key: key.id in ids))

    return Survey(pipeline, extract.report(Listing(), gathered.rows, [], findings.sort(found)), raws)


def _dealt(rows: list[Row], data: Any) -> tuple[list[Row], list[str]]:
    """The rows as `extract` would deal them, and why it would not; then classes too small to be dealt are in train."""
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
