"""What a killed process has left of encodings that it was writing, and the shares that others have encoded."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flowerml.core import files
from flowerml.core.locks import try_lock
from flowerml.data.encodings.writer import SUFFIX

FORMER = "former"
_SHARD = re.compile(r"shard-(\d+)-of-(\d+)")


@dataclass(frozen=True)
class Unfinished:
    """The folder in which encodings are written before they replace those at their path.

    >>> Unfinished.of(Path("data/flowers/encoded.arrow")).folder.as_posix()
    'data/flowers/encoded.unfinished'
    """

    folder: Path

    @classmethod
    def of(cls, path: Path) -> "Unfinished":
        """Return the folder for the encodings at a path."""
        return cls(path.with_suffix(".unfinished"))

    def take_over(self) -> list[Path]:
        """Return the files that killed processes have left, the largest first, under names that nobody writes to."""
        for number, path in enumerate(sorted(self.folder.glob(f"part-*{SUFFIX}")), start=self._next_former()):
            path.rename(path.with_name(f"{FORMER}-{number:05d}{SUFFIX}"))
        return sorted(self.folder.glob(f"{FORMER}-*{SUFFIX}"), key=lambda path: -path.stat().st_size)

    def shard(self, number: int, count: int) -> Path:
        """Return the path of the encodings of one of `count` shares, from 1."""
        return self.folder / f"shard-{number:0{len(str(count))}d}-of-{count}{SUFFIX}"

    def shards(self) -> dict[int, dict[int, Path]]:
        """Return the paths of the finished shares, by how many there are to be and by their numbers."""
        found: dict[int, dict[int, Path]] = {}
        for path in sorted(self.folder.glob(f"shard-*-of-*{SUFFIX}")):
            if match := _SHARD.fullmatch(path.stem):
                found.setdefault(int(match[2]), {})[int(match[1])] = path
        return found

    def finished_shards(self) -> list[Path]:
        """Return the paths of all finished shares."""
        return [path for paths in self.shards().values() for path in paths.values()]

    def remove(self) -> None:
        """Remove all but the shares that other processes are writing."""
        for lock in self.folder.glob("shard-*.lock"):
            with try_lock(lock) as idle:
                if idle:
                    for path in self.folder.glob(f"*{lock.stem}*"):
                        files.remove(path)
        running = {lock.stem for lock in self.folder.glob("shard-*.lock")}
        for path in self.folder.glob("*"):
            if not any(name in path.name for name in running):
                files.remove(path)
        with suppress(OSError):  # missing, or not empty
            self.folder.rmdir()

    def _next_former(self) -> int:
        numbers = [int(path.stem.partition("-")[2]) for path in self.folder.glob(f"{FORMER}-*{SUFFIX}")]
        return max(numbers, default=-1) + 1
