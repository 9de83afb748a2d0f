"""A table that is one file or, once it is large, a folder of parts with the same schema.

Spark, DuckDB, pandas and Ray Data read either by the same path. How a table is divided depends on its rows alone, so
that the same data give the same bytes wherever and by however many workers they are written.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flowerml.core.errors import DataError
from flowerml.core.files import replacing

_PART = re.compile(r"part-(\d{5,})(\.[a-z]+)")

NextPart = Callable[[], Path]


def part_name(number: int, suffix: str) -> str:
    """Return the file name of a part.

    >>> part_name(12, ".parquet")
    'part-00012.parquet'
    """
    return f"part-{number:05d}{suffix}"


def files_of(path: Path) -> list[Path]:
    """Return the file itself, or the parts of a folder in their order; raises DataError where one is missing.

    Other files in the folder are ignored, such as the `_SUCCESS` that Spark writes.
    """
    if not path.is_dir():
        return [path]
    matches = {int(match[1]): path / name for name in _names(path) if (match := _PART.fullmatch(name))}
    missing = next((number for number in range(len(matches)) if number not in matches), None)
    if missing is not None or not matches:
        name = part_name(missing or 0, path.suffix)
        raise DataError(f"{path}: expected a folder of parts, found no {name}; run the stage that writes it again")
    return [matches[number] for number in range(len(matches))]


@contextmanager
def replacing_parts(path: Path, suffix: str) -> Iterator[NextPart]:
    """Yield a function that returns the path to write the next part to; if the block succeeds, they replace `path`.

    A single part becomes the file `path`, more become the folder `path`, in one step either way (see `replacing`). A
    part must be closed before the next one is asked for.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "numbers.txt")
    >>> with replacing_parts(path, ".txt") as next_part:
    ...     for number in (1, 2):
    ...         _ = next_part().write_text(str(number))
    >>> [part.name for part in files_of(path)]
    ['part-00000.txt', 'part-00001.txt']
    """
    with replacing(path) as temporary:
        count = 0

        def next_part() -> Path:
            nonlocal count
            count += 1
            if count == 1:
                return temporary
            if count == 2:
                aside = temporary.with_name(f"{temporary.name}.tmp")
                temporary.rename(aside)
                temporary.mkdir()
                aside.rename(temporary / part_name(0, suffix))
            return temporary / part_name(count - 1, suffix)

        yield next_part


def _names(folder: Path) -> Iterator[str]:
    return (entry.name for entry in folder.iterdir())
