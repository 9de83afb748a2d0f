"""Answers to many inputs, in a file, a folder or a bucket: one row each, with bounded memory, resumed after a kill.

The source is cut into pieces, which are answered here or on workers, in order; the bytes written are the same.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from flowerml.core import files
from flowerml.core.errors import FlowermlError
from flowerml.data.download import is_url
from flowerml.pipeline.score import formats, part_file, part_folder
from flowerml.pipeline.score.answering import Job, Sight, answers
from flowerml.pipeline.score.part_file import Written
from flowerml.pipeline.score.part_folder import Shard
from flowerml.pipeline.score.pieces import Piece, cut
from flowerml.pipeline.score.rows import Row, fields
from flowerml.pipeline.score.storage import storage

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier
    from flowerml.engine.executors import Place
    from flowerml.pipeline.score.pieces import Stretch

__all__ = ["Shard", "Written", "check_out", "is_folder", "join", "score"]

PARTS = ".parts"  # appended to the name of a file in a bucket, while it is made
Progress = Callable[[int], object]
"""Called with a number of rows that are done."""


class Target(Protocol):
    """Where answers are written."""

    def lacks(self, piece: Piece) -> bool:
        """Return whether a piece is to be answered."""

    def add(self, rows: list[Row]) -> None:
        """Write the rows of the next of these pieces."""

    def finish(self, rows: int) -> Written:
        """Complete the output; `rows` is the number of all inputs."""


def is_folder(out: str) -> bool:
    """Return whether answers are to be written as a folder of parts: a name that ends in a slash, or a folder."""
    return out.endswith("/") or (not is_url(out) and Path(out).expanduser().is_dir())


def check_out(out: str, shard: Shard | None = None) -> None:
    """Raise FlowermlError unless answers can be written there."""
    if is_folder(out):
        storage(out)
        return
    if shard is not None:
        raise FlowermlError(f"{out}: shards write the parts of one folder; expected a name that ends in a slash")
    formats.check_format(out)
    if is_url(out):
        storage(out)
    elif not (folder := Path(out).expanduser().parent).is_dir():
        raise FlowermlError(f"{folder}: no such folder; make it, or choose another --out")


def score(
    classifier: "Classifier",
    stretches: "Callable[[], Iterator[Stretch]]",
    out: str,
    *,
    identity: Mapping[str, Any],
    place: "Place",
    top_k: int = 1,
    keep: tuple[str, ...] = (),
    sight: Path | None = None,
    rows: int | None = None,
    shard: Shard | None = None,
    progress: Progress = lambda rows: None,
) -> Written:
    """Write a row for each input of a source, in order: see `rows.fields`.

    `identity` is plain data on which the answers depend: what a killed command with another one has written is not
    used. `sight` is the local file or folder that workers read by themselves. `rows` is the number of all inputs, where
    it is known. Raises FlowermlError.
    """
    top_k = min(top_k, len(classifier.classes))
    job = Job(dict(classifier.names), top_k, None if sight is None else Sight.of(sight))
    with _target(out, fields(top_k, keep), {**identity, "top_k": top_k}, rows, shard) as target:
        count = 0

        def lacking() -> Iterator[Piece]:
            nonlocal count
            for piece in cut(stretches()):
                count += len(piece)
                if target.lacks(piece):
                    yield piece
                else:
                    progress(len(piece))

        for answered in answers(classifier, job, lacking(), place):
            target.add(answered)
            progress(len(answered))
        written = target.finish(count)
    if is_url(out) and not is_folder(out):
        _join(f"{out}{PARTS}/", out)
        part_folder.remove(storage(f"{out}{PARTS}/"))
    return written


def _target(
    out: str, names: tuple[str, ...], identity: Mapping[str, Any], rows: int | None, shard: Shard | None
) -> AbstractContextManager[Target]:
    if is_folder(out):
        return part_folder.opened(storage(out), names, identity, rows=rows, shard=shard)
    if is_url(out):
        return part_folder.opened(storage(f"{out}{PARTS}/"), names, identity, rows=rows)
    return part_file.opened(Path(out).expanduser(), names, identity)


def join(folder: str, out: str | None) -> int:
    """Complete a folder that shards have written, and write it as one file where `out` is given; return its rows.

    The bytes are those that one command would have written. Raises DataError where a shard has not finished.
    """
    if out is not None:
        if is_folder(out):
            raise FlowermlError(f"{out}: the parts are in {folder} already; expected the name of a file")
        check_out(out)
    return _join(folder, out)


def _join(folder: str, out: str | None) -> int:
    parts = storage(folder)
    names, rows = part_folder.join(parts)
    if out is None:
        return rows

    def write(path: Path) -> None:
        formats.write(path, PurePosixPath(out).suffix.lower(), names, part_folder.read(parts))

    if is_url(out):
        above, _, name = out.rpartition("/")
        storage(above).write(name, write)
    else:
        with files.replacing(Path(out).expanduser()) as temporary:
            write(temporary)
    return rows
