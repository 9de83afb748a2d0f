"""The inputs of a source in pieces: a table, a folder or archive of pictures or texts, here or in a bucket."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from flowerml.core.display import display_path, printable
from flowerml.core.errors import DataError
from flowerml.data import tables
from flowerml.data.archives import members
from flowerml.data.archives.members import DEFAULT_LIMITS
from flowerml.data.download import download, is_url
from flowerml.data.layout import ARCHIVES, Listing, skipped_summary, suffix_problem
from flowerml.data.tables import Column, suffix_of
from flowerml.data.tables.files import DELIMITED
from flowerml.data.tables.parquet import row_names
from flowerml.pipeline.score import buckets, folders
from flowerml.pipeline.score.pieces import (
    Address,
    ArchiveMember,
    ArchiveStretch,
    Entry,
    EntryStretch,
    Problem,
    Stretch,
    TableStretch,
)
from flowerml.pipeline.score.reading import KEEP, optional_text, text

if TYPE_CHECKING:
    from flowerml.tasks.base import Task

PARQUET = ".parquet"
EXAMPLE_TABLE = {"id", "split", "label", "digest", "raw"}  # the columns of an examples.parquet
Say = Callable[[str], None]


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table to predict: names, or numbers from 0 where it has no header.

    `keep` are carried along. The label, where there is one, only helps to find rows that a quotation mark swallows.
    `given` is whether the user has named the text's; if not, an examples.parquet is read by its own columns.
    """

    text: str | int | None = "text"
    id: str | int | None = None
    label: str | int | None = None
    keep: tuple[str | int, ...] = ()
    option: str = "--text-column"
    given: bool = True

    def to_read(self, suffix: str) -> list[Column]:
        """Return what to read of a table with this ending."""
        columns = [Column("text", self.text, self.option), Column("id", self.id, "--id-column")]
        columns += [Column(f"{KEEP}{number}", name, "--keep") for number, name in enumerate(self.keep)]
        if suffix in DELIMITED:
            columns.append(Column("label", self.label, "", optional=True))
        return columns


@dataclass(frozen=True)
class Source:
    """A source to score: what identifies its present content, and its stretches. `say` gets lines for a person."""

    state: str
    stretches: Callable[[Say], Iterator[Stretch]]
    rows: int | None = None
    """How many rows it has; None where only reading it tells."""
    read_by_workers: bool = True
    """Whether workers read it, and not this process, which sends them the texts."""


def open_source(source: str, task: "Task", columns: TableColumns, temporary: Path) -> Source:
    """Return a source by its path or address; raises DataError.

    A table that is not Parquet, and an archive, are fetched from a bucket into the folder `temporary` first.
    """
    if not is_url(source):
        return _local(Path(source).expanduser(), task, columns)
    suffix = PurePosixPath(source.partition("?")[0]).suffix.lower()
    is_web = source.lower().startswith(("http://", "https://"))
    if is_web or suffix in ARCHIVES or suffix_of(source.partition("?")[0]) not in ("", PARQUET):
        state = source if is_web else _state_of(buckets.listing(source))
        path = temporary / PurePosixPath(source.partition("?")[0]).name
        download(source, path)
        local = _local(path, task, columns)
        return replace(local, state=_digest_of(path) if is_web else state)
    return _bucket(source, task, columns)


def _local(path: Path, task: "Task", columns: TableColumns) -> Source:
    if not folders.is_there(path):
        raise DataError(
            f"{printable(str(path))}: does not exist (relative to {Path.cwd()}); expected a table, a folder or archive "
            f"of {task.NOUN}s, or an address such as s3://bucket/folder"
        )
    if path.is_dir():
        return _folder(path, task, columns)
    if tables.is_table(path):
        state = folders.digest(path, [path])
        if suffix_of(path.resolve().name) == PARQUET:
            return _parquet([str(path)], columns, state)
        _check_kind(path.name, task)
        return Source(state, lambda say: iter([EntryStretch(table_entries(path, columns, say))]), read_by_workers=False)
    if path.suffix.lower() in task.SUFFIXES and path.is_file():
        return Source(folders.digest(path, [path]), lambda say: iter([EntryStretch(iter([Entry(str(path), path)]))]), 1)
    return Source(folders.digest(path, [path]), lambda say: _archive(path, task, say))


def _folder(folder: Path, task: "Task", columns: TableColumns) -> Source:
    others = Listing()
    paths = list(folders.inputs(folder, task, others))
    if paths:

        def of_files(say: Say) -> Iterator[Stretch]:
            return _reported(others, EntryStretch(Entry(str(path), path) for path in paths), say)

        return Source(folders.digest(folder, paths), of_files, len(paths))
    names = [path for path in folders.files(folder) if suffix_of(path.name) and path.is_file()]
    parquet = [path for path in names if suffix_of(path.name) == PARQUET]
    if not names or (parquet and len(parquet) < len(names)):
        raise DataError(f"{display_path(folder)}: {_expected(task)}{_summary(others)}")
    state = folders.digest(folder, names)
    if parquet:
        return _parquet([str(path) for path in parquet], columns, state, prefixes=len(parquet) > 1)
    _check_kind(names[0].name, task)
    several = len(names) > 1

    def stretches(say: Say) -> Iterator[Stretch]:
        for path in names:
            prefix = f"{path.relative_to(folder).as_posix()} " if several else ""
            yield EntryStretch(table_entries(path, columns, say, prefix))

    return Source(state, stretches, read_by_workers=False)


def _expected(task: "Task") -> str:
    return f"expected {', '.join(sorted(task.SUFFIXES))} files, or tables of one format"


def _summary(others: Listing) -> str:
    return f"; {skipped_summary(others.skipped)}" if others.skipped else "; it has no files, except hidden ones"


def _reported(others: Listing, stretch: Stretch, say: Say) -> Iterator[Stretch]:
    if others.skipped:
        say(skipped_summary(others.skipped))
    yield stretch


def _parquet(places: Sequence[str], columns: TableColumns, state: str, *, prefixes: bool = False) -> Source:
    """Return the rows of Parquet tables, which are read where they are answered."""
    stretches = []
    for place in places:
        table = buckets.table_file(place)
        names, rows = row_names(table, _columns_of(place, columns).to_read(PARQUET))
        prefix = f"{PurePosixPath(place).name} " if prefixes else ""
        stretches.append(TableStretch(place, tuple(names.items()), rows, prefix))
    return Source(state, lambda say: iter(stretches), sum(stretch.rows for stretch in stretches))


def _columns_of(place: str, columns: TableColumns) -> TableColumns:
    """Return the columns to read; of an examples.parquet its inputs and ids, where the user names no others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if columns.given:
        return columns
    try:
        with buckets.table_file(place).open() as file:
            names = set(pq.read_schema(file).names)
    except (pa.ArrowException, OSError):
        names = set()  # row_names, which opens the file next, says what is wrong with it
    if names >= EXAMPLE_TABLE:
        return replace(columns, text="raw", id=columns.id or "id", label=None)
    return columns if columns.text is not None else replace(columns, text="text")


def _check_kind(name: str, task: "Task") -> None:
    """Raise DataError for a table that cannot hold this task's inputs."""
    if task.RAW is not str:
        raise DataError(
            f"{printable(name)}: {task.NOUN}s are read from Parquet (a column of bytes), from folders and archives; "
            "write the table as Parquet, or give the folder"
        )


def table_entries(path: Path, columns: TableColumns, say: Say, prefix: str = "") -> Iterator[Entry]:
    """Yield the rows of a table, by their ids or else numbers; warnings go to `say`. Raises DataError."""
    file = tables.table_file(path, DEFAULT_LIMITS)
    chosen = replace(columns, text="text") if columns.text is None else columns
    table = tables.open_table(file, chosen.to_read(file.suffix))
    for warning in table.warnings:
        say(f"warning: {warning}")
    roles = [f"{KEEP}{number}" for number in range(len(columns.keep))]
    for record in table.records():
        where = Problem("unusable_row", record.problem) if record.problem else text(record.values.get("text"))
        name = text(record.values.get("id")) or f"{prefix}row {record.number}"
        yield Entry(name, where, tuple(optional_text(record.values.get(role)) for role in roles))


def _archive(path: Path, task: "Task", say: Say) -> Iterator[Stretch]:
    others = Listing()
    yield ArchiveStretch(path, _members(path, task, others))
    if others.skipped:
        say(skipped_summary(others.skipped))


def _members(path: Path, task: "Task", others: Listing) -> Iterator[ArchiveMember]:
    empty = True
    for position, member in enumerate(members(path, DEFAULT_LIMITS)):
        suffix = PurePosixPath(member.name).suffix.lower()
        if any(part.startswith((folders.HIDDEN, "__MACOSX")) for part in member.name.split("/")):
            continue
        if suffix in task.SUFFIXES:
            empty = False
            problem = Problem("unreadable_file", member.problem) if member.problem else None
            yield ArchiveMember(position, member.name, problem)
        else:
            others.skip(member.name, member.problem or suffix_problem(member.name, task.SUFFIXES, task.NOT_READ))
    if empty:
        raise DataError(f"{display_path(path)}: {_expected(task)}{_summary(others)}")


def _bucket(url: str, task: "Task", columns: TableColumns) -> Source:
    objects = buckets.listing(url)
    state = _state_of(objects)
    visible = [stored for stored in objects if not _is_hidden(stored.url, url)]
    wanted = [stored for stored in visible if PurePosixPath(stored.url).suffix.lower() in task.SUFFIXES]
    if wanted:
        others = Listing()
        for stored in visible:
            suffix = PurePosixPath(stored.url).suffix.lower()
            if suffix not in task.SUFFIXES:
                others.skip(stored.url, suffix_problem(stored.url, task.SUFFIXES, task.NOT_READ))

        def of_objects(say: Say) -> Iterator[Stretch]:
            return _reported(others, EntryStretch(Entry(stored.url, Address(stored.url)) for stored in wanted), say)

        return Source(state, of_objects, len(wanted))
    parquet = [stored.url for stored in visible if suffix_of(stored.url) == PARQUET]
    if not parquet:
        raise DataError(
            f"{printable(url)}: {_expected(task)}; found {len(visible):,} objects without one. A table that is not "
            "Parquet, and an archive, are given by their own address"
        )
    return _parquet(parquet, columns, state, prefixes=len(parquet) > 1)


def _is_hidden(url: str, above: str) -> bool:
    below = url.removeprefix(above.rstrip("/"))
    return any(part.startswith((".", "_")) for part in below.split("/"))


def _state_of(objects: Iterable[buckets.Stored]) -> str:
    digest = hashlib.sha256()
    for stored in objects:
        digest.update(f"{stored.url}\0{stored.size}\0{stored.tag}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
