"""A folder of answers in parts, part-00000.parquet and so on, on a disk or in a bucket; several shards may write it.

A part holds a few pieces of the source, whoever answers them, and is written at once. Shard i of n writes every n-th
part, so that all shards take equally long and together write the very files of one command. `_score.json` says of what
model and source the parts are.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from flowerml.core.display import one_line, preview_list, printable
from flowerml.core.errors import DataError, FlowermlError
from flowerml.pipeline.score import formats
from flowerml.pipeline.score.part_file import Written
from flowerml.pipeline.score.pieces import CHUNK, Piece
from flowerml.pipeline.score.rows import ERROR, Row
from flowerml.pipeline.score.storage import Storage

FORMAT = 1  # of a folder
# A small source has a part for each of many shards, and a large one is not all small files.
PARTS = 256
MOST_PIECES = 64
PIECES = 8  # where only reading the source tells its number of rows
MANIFEST = "_score.json"  # Spark, Arrow and DuckDB pass over names with an underscore
PART_NAME = re.compile(r"part-(\d{5,})\.parquet")
SHARD_NAME = re.compile(r"_shard-(\d+)-of-(\d+)\.json")
MAX_SHARDS = 100_000


@dataclass(frozen=True)
class Shard:
    """One of several commands that share the parts of a folder; `number` counts from 1.

    >>> Shard.parse("3/16")
    Shard(number=3, count=16)
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard that i/n names; raises FlowermlError."""
        number, slash, count = text.partition("/")
        if not (slash and all(part.isascii() and part.isdigit() and len(part) <= 6 for part in (number, count))):
            raise FlowermlError(f"--shard: expected a number and a count, such as 3/16; found {one_line(text, 40)}")
        shard = cls(int(number), int(count))
        if not 1 <= shard.number <= shard.count <= MAX_SHARDS:
            raise FlowermlError(
                f"--shard: expected 1/{shard.count} to {shard.count}/{shard.count}; found {one_line(text, 40)}"
            )
        return shard

    @property
    def name(self) -> str:
        return f"shard-{self.number}-of-{self.count}"

    def holds(self, part: int) -> bool:
        """Return whether it writes a part, counted from 0."""
        return part % self.count == self.number - 1


@dataclass
class PartFolder:
    """An open folder of answers. `done` are the numbers of its parts that a killed command has left."""

    storage: Storage
    fields: tuple[str, ...]
    manifest: dict[str, Any]
    shard: Shard | None
    done: frozenset[int]
    _rows: list[Row] = field(default_factory=list)
    _counts: dict[int, tuple[int, int]] = field(default_factory=dict)

    def lacks(self, piece: Piece) -> bool:
        """Return whether a piece is to be answered."""
        part = piece.index // self._pieces
        return (self.shard or Shard()).holds(part) and part not in self.done

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows of the next piece, and write the part that they complete."""
        self._rows.extend(rows)
        if len(self._rows) == self.manifest["part"]:
            self._write()

    def finish(self, rows: int) -> Written:
        """Write the last part and that the work is done; `rows` is the number of all inputs."""
        if self._rows:
            self._write()
        shard = self.shard or Shard()
        mine = [part for part in range(parts_of(self.manifest, rows)) if shard.holds(part)]
        if self.shard is None:
            _write_json(self.storage, MANIFEST, {**self.manifest, "rows": rows})
        else:
            _write_json(self.storage, f"_{shard.name}.json", {"rows": rows})
        counts = [self._counts.get(part) or _counts(self.storage, part) for part in mine]
        resumed = sum(count for part, (count, _) in zip(mine, counts, strict=True) if part in self.done)
        return Written(sum(count for count, _ in counts), sum(errors for _, errors in counts), resumed)

    @property
    def _pieces(self) -> int:
        pieces: int = self.manifest["part"] // CHUNK
        return pieces

    def _write(self) -> None:
        present = read_manifest(self.storage)
        if present is None or {**present, "rows": None} != self.manifest:
            raise FlowermlError(f"{self.storage.place}: another command has begun others in it; choose another --out")
        rows, self._rows = self._rows, []
        part = (rows[0][0] - 1) // self.manifest["part"]
        self._counts[part] = len(rows), sum(row[ERROR] is not None for row in rows)
        self.storage.write(part_name(part), lambda path: formats.write(path, formats.PARQUET, self.fields, iter(rows)))


@contextmanager
def opened(
    storage: Storage,
    fields: tuple[str, ...],
    identity: Mapping[str, Any],
    *,
    rows: int | None = None,
    shard: Shard | None = None,
) -> Iterator[PartFolder]:
    """Open a folder of answers, with the parts that a killed command or other shards have left in it.

    `identity` is plain data on which the answers depend: parts with another one are removed first, but by a shard, as
    other shards may be writing. `rows` is the number of all inputs, where it is known. Raises FlowermlError where
    another command writes the same parts, and where the folder holds something else.
    """
    manifest = {
        "format": FORMAT,
        "chunk": CHUNK,
        "part": pieces_of_part(rows) * CHUNK,
        "fields": list(fields),
        **json.loads(json.dumps(identity)),  # as it will be read: tuples are lists
        "rows": None,
    }
    with storage.lock((shard or Shard()).name if shard else "score") as is_free:
        if not is_free:
            raise FlowermlError(f"{storage.place}: another command is writing it; wait for it, or choose another --out")
        _begin(storage, manifest, shard)
        names = storage.names()
        done = frozenset(int(match[1]) for name in names if (match := PART_NAME.fullmatch(name)))
        yield PartFolder(storage, fields, manifest, shard, done)


def _begin(storage: Storage, manifest: Mapping[str, Any], shard: Shard | None) -> None:
    """Make sure that the folder's manifest is this one, and that it holds no parts of another."""
    present = read_manifest(storage)
    if present is not None and {**present, "rows": None} == manifest:
        return
    names = storage.names()
    if strange := [name for name in names if not _is_ours(name)]:
        raise FlowermlError(
            f"{storage.place}: expected an empty folder or one of answers, found {printable(preview_list(strange))}; "
            "choose another --out"
        )
    if present is not None and shard is not None:
        raise FlowermlError(
            f"{storage.place}: holds answers of another model, source or options; remove them, or choose another --out"
        )
    # The manifest last: a kill in between leaves parts with the manifest that they belong to.
    for name in names:
        if name != MANIFEST:
            storage.remove(name)
    try:
        _write_json(storage, MANIFEST, manifest)
    except FileNotFoundError:  # a shard on another machine has just written the same
        if read_manifest(storage) is None:
            raise


def read_manifest(storage: Storage) -> dict[str, Any] | None:
    """Return what a folder says of its parts; None where it says nothing. Raises DataError."""
    manifest = _read_json(storage, MANIFEST)
    if manifest is not None:
        part, names = manifest.get("part"), manifest.get("fields")
        if not (isinstance(part, int) and part >= CHUNK and isinstance(names, list) and "error" in names):
            raise _damaged(storage, MANIFEST)
    return manifest


def join(storage: Storage) -> tuple[tuple[str, ...], int]:
    """Complete a folder that shards have written; return the names of its columns and its number of rows.

    Raises DataError where a shard or a part is missing.
    """
    manifest = read_manifest(storage)
    if manifest is None:
        raise DataError(f"{storage.place}: holds no answers of `flowerml score` ({MANIFEST} is missing)")
    names = set(storage.names())
    shards = {(int(match[1]), int(match[2])): name for name in names if (match := SHARD_NAME.fullmatch(name))}
    rows = _rows(manifest)
    if rows is None:
        rows = _rows_of_shards(storage, shards)
    expected = [part_name(part) for part in range(parts_of(manifest, rows))]
    missing = [name for name in expected if name not in names]
    if missing:
        raise DataError(
            f"{storage.place}: {len(missing):,} of {len(expected):,} parts are missing ({preview_list(missing)}); run "
            "the shards again: they write what is missing"
        )
    _write_json(storage, MANIFEST, {**manifest, "rows": rows})
    for name in shards.values():
        storage.remove(name)
    return tuple(manifest["fields"]), rows


def read(storage: Storage) -> Iterator[Row]:
    """Yield the rows of a complete folder's parts, in order; raises DataError for one that is damaged."""
    import pyarrow as pa

    manifest = read_manifest(storage) or {}
    for name in map(part_name, range(parts_of(manifest, manifest["rows"]))):
        with storage.local(name) as path:
            try:
                yield from formats.read_parquet(path)
            except pa.ArrowException as error:
                raise DataError(
                    f"{storage.place}: {name} is damaged ({one_line(error, 100)}); remove it and run the command "
                    "that wrote it again: it writes what is missing"
                ) from None


def remove(storage: Storage) -> None:
    """Remove the parts and what belongs to them, the manifest last."""
    for name in sorted(filter(_is_ours, storage.names()), key=lambda name: name == MANIFEST):
        storage.remove(name)


def pieces_of_part(rows: int | None) -> int:
    """Return the number of pieces in a part, which depends on the source alone.

    >>> [pieces_of_part(rows) for rows in (1_000, 1_000_000, 100_000_000, None)]
    [1, 15, 64, 8]
    """
    return PIECES if rows is None else max(1, min(MOST_PIECES, rows // CHUNK // PARTS))


def parts_of(manifest: Mapping[str, Any], rows: int) -> int:
    """Return the number of parts that so many rows take."""
    return int(-(-rows // manifest["part"]))


def part_name(part: int) -> str:
    """Return the name of a part, counted from 0."""
    return f"part-{part:05d}.parquet"


def _rows_of_shards(storage: Storage, shards: Mapping[tuple[int, int], str]) -> int:
    """Return the number of rows that all shards have found; raises DataError where one is missing."""
    counts = sorted({count for _, count in shards})
    if not counts:
        raise DataError(f"{storage.place}: no shard has finished; wait for them, or run the command again")
    if len(counts) > 1:
        raise DataError(
            f"{storage.place}: expected shards of one count, found those of {preview_list(list(map(str, counts)))}; "
            "finish one of them, and remove the files _shard-… of the others"
        )
    (count,) = counts
    if missing := [str(number) for number in range(1, count + 1) if (number, count) not in shards]:
        raise DataError(
            f"{storage.place}: {len(missing):,} of {count:,} shards have not finished ({preview_list(missing)}); run "
            f"them: --shard {missing[0]}/{count}"
        )
    rows = {_rows(_read_json(storage, name) or {}) for name in shards.values()}
    if len(rows) > 1 or None in rows:
        raise DataError(f"{storage.place}: its shards found different numbers of rows; remove it and run them again")
    return rows.pop() or 0


def _rows(value: Mapping[str, Any]) -> int | None:
    rows = value.get("rows")
    return rows if isinstance(rows, int) and not isinstance(rows, bool) and rows >= 0 else None


def _counts(storage: Storage, part: int) -> tuple[int, int]:
    """Return the number of rows of a part, and of these the unreadable ones."""
    import pyarrow.parquet as pq

    with storage.local(part_name(part)) as path:
        errors = pq.read_table(path, columns=["error"])["error"]
    return len(errors), len(errors) - errors.null_count


def _is_ours(name: str) -> bool:
    return name == MANIFEST or bool(PART_NAME.fullmatch(name) or SHARD_NAME.fullmatch(name))


def _read_json(storage: Storage, name: str) -> dict[str, Any] | None:
    """Return what a file holds; None where it is missing. Raises DataError."""
    content = storage.read(name)
    if content is None:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _damaged(storage, name)
    return value


def _damaged(storage: Storage, name: str) -> DataError:
    return DataError(f"{storage.place}: {name} is damaged; remove the folder and run the command again")


def _write_json(storage: Storage, name: str, value: Mapping[str, Any]) -> None:
    content = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    storage.write(name, lambda path: _write_text(path, content))


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
