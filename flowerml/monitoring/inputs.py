"""The inputs that a server keeps beside its prediction log: a share of them, by digest, within a bound."""

import os
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from flowerml.core.display import printable
from flowerml.core.errors import FlowermlError
from flowerml.core.regular import read_regular
from flowerml.monitoring.record import content_of
from flowerml.monitoring.record import digest as digest_of

SUFFIX = ".inputs"
BYTES = 2**30
BLOCK = 4096  # bytes; what the smallest file takes on a disk
MAX_INPUT = 2**30
SWEEPS = 16  # in the time in which the bound is filled once
ABANDONED = 3600.0  # seconds after which the temporary file of a killed process is removed

_numbers = count()


class Inputs:
    """A folder of raw inputs, each in a file that is called by its digest. Only the owner may read them.

    `share` is the share of inputs that is kept, chosen by digest: the same inputs on every server and at every time.
    Beyond `size` bytes the oldest are deleted; between two sweeps each process may exceed it by a sixteenth. Raises
    FlowermlError where the folder cannot be made.
    """

    def __init__(self, folder: Path, *, share: float, size: int = BYTES) -> None:
        self.folder = folder
        self.share = share
        self.size = size
        self._unswept = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
        except OSError as error:
            raise FlowermlError(
                f"{printable(str(folder))}: inputs cannot be kept ({error.strerror}); name a log in a folder that you "
                "may write to"
            ) from None

    def is_chosen(self, digest: str) -> bool:
        """Return whether an input of this digest is among those that are kept.

        >>> import tempfile
        >>> Inputs(Path(tempfile.mkdtemp()), share=0.5).is_chosen("7f" * 32)
        True
        """
        return int(digest[:13], 16) < self.share * 16**13

    def keep(self, raw: bytes | str, digest: str) -> None:
        """Write an input unless it is there; raises OSError, and then nothing of it is left."""
        path = self.folder / digest
        if path.exists():
            return
        content = content_of(raw)
        if (length := _on_disk(len(content))) > self.size:
            return
        if (self._unswept + length) * SWEEPS > self.size:
            self._sweep()
        self._unswept += length
        temporary = self.folder / f".{digest}.{os.getpid()}.{next(_numbers)}"
        try:
            with os.fdopen(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
            ) as file:
                file.write(content)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _sweep(self) -> None:
        """Delete the oldest inputs until there is room for those of the time until the next sweep."""
        self._unswept = 0
        files: list[tuple[float, int, str]] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another process sweeps as well
                    status = entry.stat(follow_symlinks=False)
                    if not entry.name.startswith("."):
                        files.append((status.st_mtime, _on_disk(status.st_size), entry.name))
                    elif time.time() - status.st_mtime > ABANDONED:
                        (self.folder / entry.name).unlink(missing_ok=True)
        total = sum(length for _, length, _ in files)
        for _, length, name in sorted(files):
            if total <= self.size * (1 - 1 / SWEEPS):
                return
            (self.folder / name).unlink(missing_ok=True)
            total -= length


def inputs_folder(log: Path) -> Path:
    """Return the folder of the inputs that are kept beside a log."""
    return log.with_name(log.name + SUFFIX)


def kept_input(log: Path, digest: str) -> bytes | None:
    """Return the input of this digest that was kept beside a log, a text as UTF-8; None where there is none.

    A file whose content is another is none.
    """
    try:
        content = read_regular(inputs_folder(log) / digest, limit=MAX_INPUT)
    except OSError:
        return None
    return content if digest_of(content) == digest else None


def _on_disk(length: int) -> int:
    return max(BLOCK, -(-length // BLOCK) * BLOCK)
