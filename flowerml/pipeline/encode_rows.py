"""The rows of encodings: reused where they are known, else encoded here or by workers."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flowerml.config.params import Section
from flowerml.data.encodings import Columns, EncodingCache, Row
from flowerml.data.examples import Block, Examples, Key
from flowerml.pipeline.encoding_pool import Task, Workers
from flowerml.tasks.base import Encoder

SPLITS = ("train", "valid")


@dataclass
class EncodeReport:
    """The number of rows encoded, the number reused from the former file, and the findings."""

    encoded: int = 0
    unchanged: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        total = self.encoded + self.unchanged
        unchanged = f"; {self.unchanged:,} unchanged" if self.unchanged else ""
        return f"encoded {self.encoded:,} of {total:,} examples{unchanged}"


@dataclass(frozen=True)
class Facts:
    """What encodings depend on besides the examples, and what they look like: see `encodings.write`."""

    columns: Columns
    fingerprints: Mapping[str, str]
    parts: Mapping[str, str]

    @classmethod
    def of(cls, encoder: Encoder[Any, Any, Any], section: Section) -> "Facts":
        """Return the facts of an encoder with its section."""
        fingerprints = {split: encoder.fingerprint(section, split) for split in SPLITS}
        return cls(encoder.columns, fingerprints, encoder.parts(section))

    def cache(self, path: Path, others: Iterable[Path]) -> EncodingCache:
        """Return the rows at `path` and in other files that are still valid."""
        return EncodingCache(
            path, columns=self.columns, fingerprints=self.fingerprints, parts=self.parts, others=others
        )


@dataclass(frozen=True)
class Source:
    """The examples of some blocks (None: all), with what is needed to encode those that the cache does not know."""

    examples: Examples
    encoder: Encoder[Any, Any, Any]
    section: Section
    facts: Facts
    cache: EncodingCache
    workers: Workers | None = None
    blocks: list[Block] | None = None

    def encoded(self, folder: Path) -> Generator[Row, None, None]:
        """Yield the encodings of the examples that are not known; workers are given the encoder in `folder`."""
        if self.workers is None:
            unknown = self.examples.of(*SPLITS, where=self._is_unknown, blocks=self.blocks)
            yield from self.encoder.encode(unknown, self.section, known=self.cache.part)
        else:
            yield from self.workers.encode(self._tasks(), self.encoder, self.section, self.facts.fingerprints, folder)

    def keys_of_parts(self) -> list[Iterator[Key]]:
        """Return the keys of each part of the table."""
        if self.blocks is not None:
            return [self.examples.keys(*SPLITS, blocks=self.blocks)]
        return [self.examples.keys(*SPLITS, blocks=blocks) for blocks in self.examples.blocks_of_parts()]

    def missing(self) -> int:
        """Return the number of examples whose encodings are not known."""
        return sum(key not in self.cache for keys in self.keys_of_parts() for key in keys)

    def _tasks(self) -> Iterator[Task]:
        for block in self.examples.blocks() if self.blocks is None else self.blocks:
            unknown = list(self.examples.of(*SPLITS, where=self._is_unknown, blocks=[block]))
            if unknown:
                known = {digest: part for digest in {e.digest for e in unknown} if (part := self.cache.part(digest))}
                yield Task(unknown, known)

    def _is_unknown(self, key: Key) -> bool:
        return key not in self.cache


def merged(
    keys: Iterable[Key], cache: EncodingCache, fresh: Iterator[Row], report: EncodeReport, progress: "tqdm[Any]"
) -> Iterator[tuple[Key, Row]]:
    """Yield each key with its row, from the cache or the next fresh one; count them in the report."""
    for key in keys:
        if key in cache:
            report.unchanged += 1
            yield key, cache[key]
        else:
            report.encoded += 1
            yield key, next(fresh)
        progress.update()
