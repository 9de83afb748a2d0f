"""The prediction log: lines of JSON in one file for all processes, rotated by size, so that its size is bounded.

Not `logging.handlers.RotatingFileHandler`: two processes that rotate one file lose lines and tear them, and a full disk
leaves half a line. Here each batch is appended under the system's lock, which a killed process releases.
"""

import errno
import glob
import heapq
import math
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flowerml.core.display import did_you_mean, printable
from flowerml.core.errors import DataError, FlowermlError, ModelError
from flowerml.core.files import is_at
from flowerml.core.regular import open_regular
from flowerml.monitoring.lines import BEGIN, MAX_LINE, from_line, time_of, to_line
from flowerml.monitoring.record import Record

FILE_BYTES = 64 * 2**20
FILES = 5
SUFFIX = ".jsonl"
MAX_FILES = 1000
WAITING = 2.0  # seconds for another process to finish its batch, which takes milliseconds
MODE = 0o640

_ROTATED = re.compile(r"\.[1-9][0-9]{0,3}")


class Log:
    """A log that records are appended to: `path` is the newest file, `path`.1 the one before, and so on.

    At most `files` files of `size` bytes are kept. Any number of processes may append to the same log. Raises
    FlowermlError where nothing can be written.

        Log(Path("predictions.jsonl")).append([record])
    """

    def __init__(self, path: Path, *, size: int = FILE_BYTES, files: int = FILES) -> None:
        if size < MAX_LINE or not 1 <= files <= MAX_FILES:
            raise FlowermlError(
                f"the prediction log: expected 1 to {MAX_FILES:,} files of at least {MAX_LINE:,} bytes, "
                f"found {files:,} of {size:,}"
            )
        self.path = path.resolve()  # a link would be renamed instead of its file
        self.size = size
        self.files = files
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._current() as descriptor:
                begin = os.pread(descriptor, len(BEGIN), 0)
        except OSError as error:
            raise FlowermlError(
                f"{printable(str(path))}: the prediction log cannot be written ({error.strerror}); "
                "name a file in a folder that you may write to"
            ) from None
        if begin and begin != BEGIN:  # it would be rotated, and deleted in the end
            raise FlowermlError(
                f"{printable(str(path))}: expected a prediction log or no file, found a file of another kind; name "
                "another file, or move this one away"
            )

    def append(self, records: Iterable[Record]) -> None:
        """Append records; raises OSError, and then no part of a line is left in the log."""
        for chunk in _chunks([to_line(record) for record in records], self.size):
            with self._with_room(len(chunk)) as descriptor:
                _write(descriptor, chunk)

    @contextmanager
    def _with_room(self, count: int) -> Iterator[int]:
        """Yield a locked descriptor of a file that has room for so many bytes."""
        while True:
            with self._current() as descriptor:
                if not (length := os.fstat(descriptor).st_size) or length + count <= self.size:
                    yield descriptor
                    return
                self._rotate()

    @contextmanager
    def _current(self) -> Iterator[int]:
        """Yield a locked descriptor of the newest file, which is made where it is missing.

        It is opened anew for each batch: 30 µs, and a log that somebody has moved or deleted goes on.
        """
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(errno.EINVAL, "not a regular file", str(self.path))
                _lock(descriptor, self.path)
                if is_at(descriptor, self.path):  # else another process has rotated it meanwhile
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _rotate(self) -> None:
        """Rename each file to the next number; the last ones are deleted. The newest file is locked by the caller."""
        for path, number in _rotated(self.path):
            if number >= self.files - 1:
                path.unlink(missing_ok=True)
        for number in range(self.files - 2, 0, -1):
            if (path := _numbered(self.path, number)).exists():
                path.replace(_numbered(self.path, number + 1))
        if self.files == 1:
            self.path.unlink()
        else:
            self.path.replace(_numbered(self.path, 1))


@dataclass
class Damage:
    """The lines of a log that are none: how many, and where and why the first."""

    count: int = 0
    first: str = ""

    def add(self, place: str, error: ModelError) -> None:
        """Count a line; `place` is its file and number."""
        self.count += 1
        self.first = self.first or f"{place}: {error}"

    def __str__(self) -> str:
        return f"{self.count:,} damaged {'line was' if self.count == 1 else 'lines were'} skipped ({self.first})"


def read(
    source: str | Path, damage: Damage | None = None, *, since: float = -math.inf, until: float = math.inf
) -> Iterator[Record]:
    """Return the records of the logs that `source` names, the oldest first, with bounded memory.

    Those before `since` and from `until` on, in seconds since 1970, are skipped.

    `source` is a log, whose rotated files are read as well, a folder of logs (*.jsonl) or a glob pattern; the records
    of several logs are merged by time. A line that is no record is skipped, and counted in `damage`: the process that
    wrote it may have been killed. A server may go on writing meanwhile. Raises DataError where there is no log.
    """
    damage = Damage() if damage is None else damage
    logs = [_read_log(log, damage, since, until) for log in find_logs(source)]
    return heapq.merge(*logs, key=lambda record: record.time)


def find_logs(source: str | Path) -> list[Path]:
    """Return the paths of the logs that `source` names, as in `read`; raises DataError where there is none."""
    path = Path(source)
    if path.is_dir():
        logs = {log for file in path.iterdir() if (log := _unnumbered(file)).name.endswith(SUFFIX)}
    elif path.exists() or _rotated(path):
        logs = {path}
    else:
        logs = {_unnumbered(Path(file)) for file in glob.glob(str(source))}  # noqa: PTH207 - may be absolute
        logs = {log for log in logs if not log.is_dir()}
    if not logs:
        names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        advice = did_you_mean(path.name, names) or "`flowerml serve MODEL --log FILE` writes one"
        raise DataError(
            f"{printable(str(source))}: expected a prediction log or a folder of them, found none; {advice}"
        )
    return sorted(logs)


def _read_log(log: Path, damage: Damage, since: float, until: float) -> Iterator[Record]:
    with ExitStack() as stack:
        for name, file in _open_all(log, stack):
            for number, line in enumerate(_lines(file), 1):
                time = time_of(line)
                if time is not None and not since <= time < until:  # a hundredth of the time that reading it takes
                    continue
                try:
                    record = from_line(line)
                except ModelError as error:
                    damage.add(f"{printable(name)}, line {number:,}", error)
                    continue
                if since <= record.time < until:
                    yield record


def _open_all(log: Path, stack: ExitStack) -> list[tuple[str, BinaryIO]]:
    """Open the files of a log and return them with their names, the oldest first.

    The newest is opened first: when they are rotated meanwhile, a file is met again under the next number, and none is
    missed.
    """
    opened: dict[tuple[int, int], tuple[str, BinaryIO]] = {}
    for path in (log, *(path for path, _ in _rotated(log))):
        try:
            file = stack.enter_context(open_regular(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{printable(str(path))}: cannot be read ({error.strerror})") from None
        status = os.fstat(file.fileno())
        opened.setdefault((status.st_dev, status.st_ino), (path.name, file))
    return list(opened.values())[::-1]


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file; of one that is too long its begin, which is too long as well."""
    while line := file.readline(MAX_LINE + 1):
        yield line
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)


def _chunks(lines: Sequence[bytes], size: int) -> Iterator[bytes]:
    """Yield lines in groups of at most `size` bytes; a longer line is alone."""
    group: list[bytes] = []
    length = 0
    for line in lines:
        if group and length + len(line) > size:
            yield b"".join(group)
            group, length = [], 0
        group.append(line)
        length += len(line)
    if group:
        yield b"".join(group)


def _write(descriptor: int, chunk: bytes) -> None:
    """Append bytes to a locked file, all or none; raises OSError."""
    length = os.fstat(descriptor).st_size
    if length and os.pread(descriptor, 1, length - 1) != b"\n":  # a process was killed while it wrote
        chunk = b"\n" + chunk
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        os.ftruncate(descriptor, length)
        raise


def _lock(descriptor: int, path: Path) -> None:
    """Lock an open file; raises OSError where another process holds it for longer than WAITING."""
    import fcntl

    deadline = time.monotonic() + WAITING
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(errno.EAGAIN, "another process does not release it", str(path)) from None
            time.sleep(0.002)


def _rotated(log: Path) -> list[tuple[Path, int]]:
    """Return the rotated files of a log with their numbers, the newest first."""
    if not log.parent.is_dir():
        return []
    numbers = [
        int(file.name.removeprefix(f"{log.name}."))
        for file in log.parent.iterdir()
        if file.name.startswith(f"{log.name}.") and _ROTATED.fullmatch(file.name[len(log.name) :])
    ]
    return [(_numbered(log, number), number) for number in sorted(numbers)]


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def _unnumbered(file: Path) -> Path:
    """Return the log that a file belongs to: itself, or the one without its number."""
    return file.with_suffix("") if _ROTATED.fullmatch(file.suffix) else file
