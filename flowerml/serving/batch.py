"""The answers to many inputs, written to a file: one row each, with bounded memory, and resumed after a kill.

Answers are appended to FILE.part in chunks and flushed to disk. When all inputs are answered, they are written as FILE
in its own format, at once. The same command resumes from the .part of a killed one, and writes the same bytes.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.prediction import Prediction
from flowerml.core import files
from flowerml.core.errors import FlowermlError, InputError
from flowerml.core.locks import try_lock
from flowerml.engine.parallel import map_readable

# Inputs answered together and appended at once. A resumed command answers the chunks that a killed one would have, as
# the last bits of a probability may depend on the other inputs of a pass through the network.
CHUNK = 256
FIELDS = (
    "row",
    "input",
    "label",
    "name",
    "probability",
    "known",
    "out_of_distribution",
    "reason",
    "error",
    "message",
)
FORMATS = (".csv", ".jsonl", ".parquet")
FORMAT = 2  # of a .part; one of another format is started anew

Row = dict[str, Any]
Item = tuple[str, Callable[[], Any]]
"""The id of an input, and a function that reads it: a raw input, or an InputError."""


@dataclass(frozen=True)
class Written:
    """How many inputs have an answer; of these, how many are unreadable, and how many come from a killed command."""

    rows: int
    unreadable: int
    resumed: int


def check_format(path: Path) -> None:
    """Raise FlowermlError unless answers can be written to a file of this name."""
    if path.suffix.lower() not in FORMATS:
        raise FlowermlError(f"{path}: expected a file ending in {', '.join(FORMATS)}")
    if path.is_dir():
        raise FlowermlError(f"{path}: is a folder; expected the name of a file")


def write_answers(path: Path, classifier: Classifier, items: Iterable[Item], *, identity: Mapping[str, Any]) -> Written:
    """Write a row for each input, in order: FIELDS, with `error` and `message` where it cannot be read.

    `identity` is plain data on which the answers depend besides the classifier: where a .part has another one, it is
    started anew. Raises FlowermlError where another command writes the same file.
    """
    check_format(path)
    part = path.with_name(f"{path.name}.part")
    lock = path.with_name(f".{path.name}.lock")
    with try_lock(lock) as is_free:
        if not is_free:
            raise FlowermlError(f"{path}: another command is writing it; wait for it, or choose another --out")
        done = _append(part, classifier, items, {"format": FORMAT, "chunk": CHUNK, **identity})
        rows, unreadable = _convert(part, path)
        part.unlink()
        lock.unlink(missing_ok=True)
    return Written(rows, unreadable, done)


def _append(part: Path, classifier: Classifier, items: Iterable[Item], identity: Mapping[str, Any]) -> int:
    """Answer the inputs that a .part lacks; return how many it had."""
    header = json.dumps(dict(identity), sort_keys=True).encode() + b"\n"
    with part.open("a+b") as file:
        done, end = _resume(file, header)
        file.truncate(end)
        if not end:
            file.write(header)
        remaining = islice(enumerate(items, 1), done, None)
        while chunk := list(islice(remaining, CHUNK)):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(classifier, chunk))
            file.write("".join(lines).encode(errors="backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
    return done


def _resume(file: BinaryIO, header: bytes) -> tuple[int, int]:
    """Return how many answers of a .part to keep, in whole chunks, and the bytes that they end at."""
    file.seek(0)
    if file.readline() != header:
        return 0, 0
    end, kept = file.tell(), 0
    while len(lines := list(islice(file, CHUNK))) == CHUNK and lines[-1].endswith(b"\n"):
        kept += CHUNK
        end += sum(map(len, lines))
    return kept, end


def _rows(classifier: Classifier, chunk: list[tuple[int, Item]]) -> Iterator[Row]:
    pairs = (((number, name), read()) for number, (name, read) in chunk)
    for (number, name), answer in map_readable(pairs, lambda raws: classifier.predict_each(raws, top_k=1)):
        yield dict(zip(FIELDS, (number, name, *_values(answer)), strict=True))


def _values(answer: Prediction | InputError) -> tuple[Any, ...]:
    if isinstance(answer, InputError):
        return *[None] * 6, answer.code, answer.message
    best = answer.top[0]
    return (
        best.label,
        best.name,
        best.probability,
        answer.known,
        answer.out_of_distribution,
        answer.reason,
        None,
        None,
    )


def _convert(part: Path, path: Path) -> tuple[int, int]:
    """Write a complete .part in the format of a file's name; return the number of rows, and of errors."""
    counts = [0, 0]

    def counted() -> Iterator[Row]:
        with part.open("rb") as file:
            file.readline()
            for line in file:
                row = json.loads(line)
                counts[0] += 1
                counts[1] += row["error"] is not None
                yield row

    with files.replacing(path) as temporary:
        _WRITERS[path.suffix.lower()](temporary, counted())
    return counts[0], counts[1]


def _write_csv(path: Path, rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(path: Path, rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(path: Path, rows: Iterator[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = dict.fromkeys(("probability", "out_of_distribution"), pa.float64())
    types = {"row": pa.int64(), "known": pa.bool_(), **numbers}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in FIELDS])
    with pq.ParquetWriter(path, schema) as writer:
        while chunk := list(islice(rows, 16 * CHUNK)):
            writer.write_table(pa.Table.from_pylist(chunk, schema))


_WRITERS: dict[str, Callable[[Path, Iterator[Row]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
