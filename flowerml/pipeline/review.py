"""What `flowerml review` looks at: the examples of any data or pipeline, the findings in them, and the mistakes.

Checks and encodings that are there are used. Otherwise the stages extract and encode are run in the work folder, never
among the outputs of `dvc repro`.
"""

import csv
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowerml.config.params import PARAMS_FILE, read
from flowerml.config.paths import Paths
from flowerml.config.pipeline import Pipeline
from flowerml.core import files
from flowerml.core.display import printable
from flowerml.core.errors import DataError
from flowerml.core.locks import hold_lock, try_lock
from flowerml.data import split
from flowerml.data.examples import Examples, is_examples
from flowerml.data.layout import Listing, Row
from flowerml.data.names import category_names
from flowerml.data.split_table import split_table
from flowerml.evaluation.labelled import kind_of_table
from flowerml.pipeline import adhoc, check, download, extract
from flowerml.review import cards
from flowerml.review.cards import MISTAKE, Mistake
from flowerml.review.contents import Contents
from flowerml.review.session import Session, Texts
from flowerml.review.table import Decision, Entry, Former, LabelTable
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tasks.registry import TASKS, task_of

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


@contextmanager
def session(
    subject: Subject, path: Path, *, findings: Collection[str], most_mistakes: int, most_cards: int, say: Say
) -> Iterator[Session]:
    """Hold the table at a path, and yield the session of its review; it goes on from the decisions in the table.

    Raises DataError where another process holds the table, or it is of other data.
    """
    with try_lock(path.with_name(f".{path.name}.lock")) as is_ours:
        if not is_ours:
            raise DataError(f"{path}: another `flowerml review` is writing it; stop that one, or choose another --out")
        table = LabelTable(path, *_with_former(subject, Former.read(path), path, say))
        rows = {id: row for id, row in subject.rows.items() if id in table.entries}
        mistakes = subject.mistakes(most_mistakes, say) if MISTAKE in findings else []
        all_cards = cards.build(rows, subject.findings, mistakes, subject.names, findings)
        if len(all_cards) > most_cards:
            say(f"{len(all_cards):,} cards; the first {most_cards:,} are shown (--most)")
        chosen = all_cards[:most_cards]
        wanted = {id for card in chosen for id in (card.id, *card.partners())}
        task = TASKS[subject.kind]
        examples = Examples(subject.examples).of(*split.SPLITS, where=lambda key: key.id in wanted)
        with closing(Contents(task, examples)) as contents:
            texts = Texts(subject.name, task.NOUN, subject.command(_shown(path)))
            yield Session(chosen, table, names=subject.names, texts=texts, view=contents.view)


def _with_former(subject: Subject, former: Former, path: Path, say: Say) -> tuple[list[Entry], dict[str, Decision]]:
    """Return the entries of a table and the decisions on them, with those of an earlier review.

    Where its table is in use, the data have the corrected labels, and lack what was dropped: the entries are then as
    they were before. Raises DataError where the labels in the data are others than then.
    """
    entries = {entry.file: entry for entry in subject.entries}
    if subject.table is not None and path.exists() and subject.table.resolve() == path.resolve():
        dropped = {file for file, decision in former.decisions.items() if decision.kind == "drop"}
        kept = {file: entry for file, entry in former.entries.items() if file in entries or file in dropped}
        return list((entries | kept).values()), former.decisions
    for file, entry in former.entries.items():
        now = entries.get(file, entry)
        if (now.source_label or now.label) != entry.source_label:
            raise DataError(
                f"{path}: {printable(file)} had the label {entry.source_label!r} when this table was written, and has "
                f"{now.source_label or now.label!r} now; the data have changed since, so choose another --out"
            )
    if lost := former.decisions.keys() - entries.keys():
        say(f"{path}: {len(lost):,} decisions are left out, as {subject.name} lacks {printable(min(lost))}, …")
    return subject.entries, former.decisions


def of_pipeline(name: str, work: Path, say: Say) -> Subject:
    """Return the data of a pipeline of params.yaml. Raises FlowermlError where they cannot be read."""
    pipeline = load_pipeline(name)
    limit = "" if pipeline.data.limit is None else f" -S {name}.data.limit=null"

    def command(table: str) -> str:
        return f"dvc exp run -S {shlex.quote(f'{name}.data.split.table={_quoted(table)}')}{limit}"

    reports = pipeline.paths.reports
    if not _is_current(pipeline):
        say(f"{name}: no current checks and encodings in {pipeline.paths.checks.parent}; making them in {work}")
        pipeline = _without_failing(replace(pipeline, root=work))
        with _locked(pipeline.paths):
            download.run(pipeline)
            _check(pipeline)
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
        if values or not _is_current(pipeline):
            say(f"{data}: of kind {pipeline.kind}; checking and encoding it in {work}")
            _check(pipeline)
        return _subject(pipeline, pipeline.paths.reports, command)


def of_examples(path: Path) -> Subject:
    """Return the data of an example table, with the checks in its folder, if there are any."""
    folder = path.resolve().parent
    paths = Paths(folder.name, folder.parent.parent)
    rows = _rows(path)
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
    rows = _rows(paths.examples)
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
    source, listing = _listings(pipeline)
    labels = {row.id: row.label for row in source.rows}
    for row in listing.rows:
        if row.id in rows:
            yield _entry(replace(rows[row.id], group=row.group), labels[row.id])
        elif pipeline.data.limit is None:
            yield _entry(row, labels[row.id])


def _listings(pipeline: Pipeline) -> tuple[Listing, Listing]:
    """Return the listing of a source, and the same with the values of its table of splits."""
    table = split_table(pipeline.paths.split_table)
    labelled = table is None or not table.has_labels
    source = task_of(pipeline).listing(pipeline.paths.archive, pipeline.data, labelled=labelled)
    return source, table.apply(source) if table else source


def _entry(row: Row, source_label: str | None) -> Entry:
    return Entry(row.id, row.label, row.split or "", row.group or "", source_label or "")


def _rows(path: Path) -> dict[str, Row]:
    return {key.id: Row(key.id, key.label, key.split) for key in Examples(path).keys(*split.SPLITS)}


def _is_current(pipeline: Pipeline) -> bool:
    """Return whether the examples, checks and encodings of a pipeline are there, and those of its source as it is."""
    paths = pipeline.paths
    outputs = (paths.split_table, paths.examples, paths.checks, paths.encoded_checks)
    if not paths.archive.exists() or not all(path.exists() for path in outputs):
        return False
    if _newest(paths.archive) > paths.encoded_checks.stat().st_mtime:
        return False
    _, listing = _listings(pipeline)
    listed = split.limit_per_class(listing.rows, limit=pipeline.data.limit, seed=pipeline.data.seed)
    labels, rows = {row.id: row.label for row in listed}, _rows(paths.examples)
    unreadable = files.read_json(paths.checks)["left_out"] - len(listing.skipped)
    same = all(labels.get(row.id) == row.label for row in rows.values())
    return same and len(labels) == len(rows) + unreadable


def _newest(path: Path) -> float:
    """Return when a file, or any file or folder in a folder, was changed last."""
    path = path.resolve()
    inner = (Path(folder, name) for folder, folders, names in os.walk(path) for name in (*folders, *names))
    return max(each.lstat().st_mtime for each in (path, *inner))


def _locked(paths: Paths) -> AbstractContextManager[None]:
    waiting = f"{paths.pipeline}: another process is at work on it in {paths.root}; waiting for it to finish"
    return hold_lock(paths.lock, waiting=waiting)


def _without_failing(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline that no finding stops, since these are what is looked at."""
    checks = pipeline.data.checks.model_copy(update={"fail_on": []})
    return replace(pipeline, data=pipeline.data.model_copy(update={"checks": checks}))


def _check(pipeline: Pipeline) -> None:
    """Write the examples, the findings in them, and the encodings, which show likely label errors."""
    from flowerml.pipeline import backbones, encode  # torch takes seconds to import, and mostly they are there

    extract.run(pipeline)
    backbones.offer(pipeline)
    encode.run(pipeline)


def _mistake(row: Mapping[str, str]) -> Mistake:
    return Mistake(row["id"], row["predicted"], float(row["probability"]), float(row["probability_of_actual"]))


def _shown(path: Path) -> str:
    """Return a path relative to this folder, or absolute where it is not below it."""
    return (
        str(path.resolve().relative_to(Path.cwd()))
        if path.resolve().is_relative_to(Path.cwd())
        else str(path.resolve())
    )


def _quoted(path: str) -> str:
    """Return a path as YAML and DVC's overrides read it as one text."""
    plain = path.replace("/", "").replace(".", "").replace("-", "").replace("_", "")
    return path if plain.isascii() and plain.isalnum() and not plain.isdigit() else f'"{path}"'
