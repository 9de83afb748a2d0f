"""What `flowerml review` looks at: the examples of any data or pipeline, the findings in them, and the mistakes.

Checks and encodings that are there are used. Otherwise the stages extract and encode are run in the work folder, never
among the outputs of `dvc repro`.
"""

import csv
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowerml.checks import encodings
from flowerml.config.params import PARAMS_FILE, read
from flowerml.config.paths import Paths
from flowerml.config.pipeline import Pipeline
from flowerml.core import files
from flowerml.core.errors import DataError
from flowerml.core.locks import hold_lock
from flowerml.data.encodings import Encoded
from flowerml.data.examples import is_examples
from flowerml.data.layout import Row
from flowerml.data.names import category_names
from flowerml.evaluation.labelled import kind_of_table
from flowerml.pipeline import adhoc, check, download
from flowerml.pipeline.review.current import check_data, is_current, listings, rows_of
from flowerml.review.cards import Mistake
from flowerml.review.table import Entry
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tasks.registry import TASKS

TABLE = "examples.parquet"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """The data of a review. `entries` are all examples, `rows` those that can be read, by id."""

    name: str
    kind: str
    examples: Path
    reports: Path
    entries: list[Entry]
    rows: dict[str, Row]
    findings: list[dict[str, Any]]
    names: dict[str, str]
    command: Callable[[str], str]
    """Returns the command to go on with, once the table is at a path."""
    table: Path | None = None
    """The table of splits that is in use."""

    def label_errors(self, min_margin: float) -> list[dict[str, Any]]:
        """Return the likely label errors from another margin on. Raises DataError without encodings."""
        path = self.examples.with_name("encoded.arrow")
        if not path.exists():
            raise DataError(f"{path}: --margin needs encodings; run `dvc repro encode`, or name the data themselves")
        return encodings.label_errors(TASKS[self.kind], Encoded.read(path), self.names, min_margin=min_margin)

    def mistakes(self, most: int, say: Say) -> list[Mistake]:
        """Return the worst mistakes of the classifier that was evaluated last, as far as they are of these examples."""
        path = self.reports / "predictions.csv"
        if not path.is_file() or not most:
            return []
        try:
            with path.open(encoding="utf-8", newline="") as file:
                listed = [_mistake(row) for row in csv.DictReader(file) if self._is_current(row)]
        except (OSError, ValueError, KeyError, csv.Error) as error:
            say(f"warning: {path}: cannot be read ({error}), so that no mistakes are shown; evaluate again")
            return []
        return sorted(listed, key=lambda mistake: mistake.of_label)[:most]

    def _is_current(self, row: Mapping[str, str]) -> bool:
        known = self.rows.get(row["id"])
        return known is not None and known.label == row["actual"] != row["predicted"]


def of_pipeline(name: str, work: Path, say: Say) -> Subject:
    """Return the data of a pipeline of params.yaml. Raises FlowermlError where they cannot be read."""
    pipeline = load_pipeline(name)
    limit = "" if pipeline.data.limit is None else f" -S {name}.data.limit=null"

    def command(table: str) -> str:
        return f"dvc exp run -S {shlex.quote(f'{name}.data.split.table={_quoted(table)}')}{limit}"

    reports = pipeline.paths.reports
    if not is_current(pipeline):
        folder, pipeline = pipeline.paths.checks.parent, _without_failing(replace(pipeline, root=work))
        with _locked(pipeline.paths):
            download.run(pipeline)
            if not is_current(pipeline):
                say(f"{name}: {folder} has no checks and encodings of the data as they are; making them in {work}")
                check_data(pipeline)
    return _subject(pipeline, reports, command)


def of_data(
    data: str, kind: str | None, values: Mapping[str, Any], options: Sequence[str], *, name: str, work: Path, say: Say
) -> Subject:
    """Return the data that `flowerml train` would train on; `values` as there. Raises FlowermlError."""

    def command(table: str) -> str:
        return shlex.join(["flowerml", "train", data, *options, "--set", f"data.split.table={_quoted(table)}"])

    with _locked(Paths(name, work)):
        pipeline, _ = adhoc.pipeline_from_data(data, kind, values, name=name, root=work)
        pipeline = _without_failing(pipeline)
        if values or not is_current(pipeline):
            say(f"{data}: of kind {pipeline.kind}; checking and encoding it in {work}")
            check_data(pipeline)
        return _subject(pipeline, pipeline.paths.reports, command)


def of_examples(path: Path) -> Subject:
    """Return the data of an example table, with the checks in its folder, if there are any."""
    folder = path.resolve().parent
    paths = Paths(folder.name, folder.parent.parent)
    rows = rows_of(path)
    report = files.read_json(paths.checks) if paths.checks.is_file() else check.from_table(path, {}).report
    encoded = files.read_json(paths.encoded_checks) if paths.encoded_checks.is_file() else {"findings": []}
    source = paths.archive.resolve() if paths.archive.exists() else "DATA"

    def command(table: str) -> str:
        return shlex.join(["flowerml", "train", str(source), "--set", f"data.split.table={_quoted(table)}"])

    return Subject(
        name=folder.name,
        kind=kind_of_table(path),
        examples=path,
        reports=paths.reports,
        entries=[_entry(row, None) for row in rows.values()],
        rows=rows,
        findings=[*report["findings"], *encoded["findings"]],
        names=category_names(paths.category_names) if paths.category_names.is_file() else {},
        command=command,
    )


def pipeline_named(data: str) -> str | None:
    """Return the pipeline of params.yaml that DATA names, by its name or by the folder of its examples."""
    if not PARAMS_FILE.exists():
        return None
    names = [str(name) for name in read(PARAMS_FILE)["pipelines"]]
    folders = {Paths(name).examples.resolve().parent: name for name in names}
    table = examples_in(Path(data))
    return data if data in names else folders.get(table.resolve().parent) if table else None


def examples_in(path: Path) -> Path | None:
    """Return the example table at a path, in its folder, or in the work of one `flowerml train`; None for other data.

    Raises DataError for a folder with the work of several.
    """
    if is_examples(path):
        return path
    if not path.is_dir():
        return None
    tables = [table for table in sorted([path / TABLE, *path.glob(f"data/*/{TABLE}")]) if is_examples(table)]
    if len(tables) > 1:
        raise DataError(f"{path}: holds several data sets; name one of {', '.join(str(t.parent) for t in tables)}")
    return tables[0] if tables else None


def _subject(pipeline: Pipeline, reports: Path, command: Callable[[str], str]) -> Subject:
    paths = pipeline.paths
    rows = rows_of(paths.examples)
    findings = [*files.read_json(paths.checks)["findings"], *files.read_json(paths.encoded_checks)["findings"]]
    given = pipeline.data.split.table
    return Subject(
        name=pipeline.name,
        kind=pipeline.kind,
        examples=paths.examples,
        reports=reports,
        entries=list(_entries(pipeline, rows)),
        rows=rows,
        findings=findings,
        names=category_names(paths.category_names),
        command=command,
        table=Path(given) if given else None,
    )


def _entries(pipeline: Pipeline, rows: Mapping[str, Row]) -> Iterator[Entry]:
    """Yield all examples of the source as they are used, in its order.

    Unreadable ones are among them, so that they stay reported; those beyond `data.limit` are not.
    """
    source, listing = listings(pipeline)
    labels = {row.id: row.label for row in source.rows}
    for row in listing.rows:
        if row.id in rows:
            yield _entry(replace(rows[row.id], group=row.group), labels[row.id])
        elif pipeline.data.limit is None:
            yield _entry(row, labels[row.id])


def _entry(row: Row, source_label: str | None) -> Entry:
    return Entry(row.id, row.label, row.split or "", row.group or "", source_label or "")


def _locked(paths: Paths) -> AbstractContextManager[None]:
    waiting = f"{paths.pipeline}: another process is at work on it in {paths.root}; waiting for it to finish"
    return hold_lock(paths.lock, waiting=waiting)


def _without_failing(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline that no finding stops, since these are what is looked at."""
    checks = pipeline.data.checks.model_copy(update={"fail_on": []})
    return replace(pipeline, data=pipeline.data.model_copy(update={"checks": checks}))


def _mistake(row: Mapping[str, str]) -> Mistake:
    return Mistake(row["id"], row["predicted"], float(row["probability"]), float(row["probability_of_actual"]))


def _quoted(path: str) -> str:
    """Return a path as YAML and DVC's overrides read it as one text."""
    plain = path.replace("/", "").replace(".", "").replace("-", "").replace("_", "")
    return path if plain.isascii() and plain.isalnum() and not plain.isdigit() else f'"{path}"'
