"""A file of answers that is written by appending to FILE.part, and resumed from it after a kill.

The rows of each piece are appended and flushed to disk. When all inputs are answered they are written as FILE in its
own format, at once. The same command resumes from the .part of a killed one, and writes the same bytes.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from flowerml.core import files
from flowerml.core.errors import FlowermlError
from flowerml.core.locks import try_lock
from flowerml.pipeline.score import formats
from flowerml.pipeline.score.pieces import CHUNK, Piece
from flowerml.pipeline.score.rows import ERROR, Row

FORMAT = 3  # of a .part; one of another format is started anew


@dataclass(frozen=True)
class Written:
    """How many inputs have an answer; of these, how many are unreadable, and how many come from a killed command."""

    rows: int
    unreadable: int
    resumed: int


@dataclass
class PartFile:
    """The open .part of a file of answers: `done` rows of it are whole."""

    path: Path
    fields: tuple[str, ...]
    file: BinaryIO
    done: int

    def lacks(self, piece: Piece) -> bool:
        """Return whether a piece is to be answered."""
        return piece.first > self.done

    def add(self, rows: Sequence[Row]) -> None:
        """Append the rows of the next piece."""
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self.file.write("".join(lines).encode())
        self.file.flush()
        os.fsync(self.file.fileno())

    def finish(self, rows: int) -> Written:
        """Write the file itself; `rows` is the number of all inputs. Raises FlowermlError."""
        counts = [0, 0]

        def counted() -> Iterator[Row]:
            with _part(self.path).open("rb") as file:
                file.readline()
                for line in file:
                    row = tuple(json.loads(line))
                    counts[0] += 1
                    counts[1] += row[ERROR] is not None
                    yield row

        with files.replacing(self.path) as temporary:
            formats.write(temporary, self.path.suffix.lower(), self.fields, counted())
        return Written(counts[0], counts[1], self.done)


@contextmanager
def opened(path: Path, fields: tuple[str, ...], identity: Mapping[str, Any]) -> Iterator[PartFile]:
    """Open the .part of a file, with the whole pieces that a killed command has left in it; remove it after success.

    `identity` is plain data on which the answers depend: a .part with another one is started anew. Raises FlowermlError
    where another command writes the same file.
    """
    part, lock = _part(path), path.with_name(f".{path.name}.lock")
    header = (
        json.dumps({"format": FORMAT, "chunk": CHUNK, "fields": fields, **identity}, sort_keys=True).encode() + b"\n"
    )
    with try_lock(lock) as is_free:
        if not is_free:
            raise FlowermlError(f"{path}: another command is writing it; wait for it, or choose another --out")
        try:
            with part.open("a+b") as file:
                done, end = _resume(file, header)
                file.truncate(end)
                if not end:
                    file.write(header)
                yield PartFile(path, fields, file, done)
        except OSError as error:  # also of closing the file, which writes what a full disk did not take before
            if error.filename is None and error.errno is not None:
                error.filename = str(part)
            raise
        part.unlink()
        lock.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _resume(file: BinaryIO, header: bytes) -> tuple[int, int]:
    """Return how many answers of a .part to keep, in whole pieces, and the bytes that they end at."""
    file.seek(0)
    if file.readline() != header:
        return 0, 0
    end, kept = file.tell(), 0
    while len(lines := list(islice(file, CHUNK))) == CHUNK and lines[-1].endswith(b"\n"):
        kept += CHUNK
        end += sum(map(len, lines))
    return kept, end
