"""Encoding in shares that are commands of their own, such as the tasks of a Slurm array, and joining them.

Each shard lies in data/PIPELINE/encoded.unfinished/ with the digests of its examples and the fingerprints of its
encodings. So a shard of other data or parameters is recognized, and neither the join nor `encode` needs a list.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from flowerml.config.pipeline import Pipeline
from flowerml.core import fingerprint
from flowerml.core.display import one_line, preview_list
from flowerml.core.errors import DataError, FlowermlError
from flowerml.core.locks import hold_lock
from flowerml.data import parts
from flowerml.data.encodings import Unfinished, fingerprints_of
from flowerml.data.examples import Examples
from flowerml.engine.executors import Place
from flowerml.pipeline import encode
from flowerml.pipeline.encode_rows import SPLITS, EncodeReport, Facts, Source
from flowerml.pipeline.encoding_pool import Workers
from flowerml.tasks import registry
from flowerml.tasks.base import Encoder
from flowerml.tasks.registry import task_of

MOST = 100_000  # shards
SHOWN = 10  # missing shards
PACKAGES = ("flowerml", "numpy", "torch")


@dataclass(frozen=True)
class Shard:
    """One of `count` shares of the examples, from 1.

    >>> str(Shard.parse("3/16"))
    '3/16'
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard of a text such as 3/16; raises FlowermlError."""
        first, slash, last = text.strip().partition("/")
        digits = all(part.isascii() and part.isdigit() and len(part) <= 6 for part in (first, last))
        if not (slash and digits and 1 <= int(first) <= int(last) <= MOST):
            raise FlowermlError(
                f"--shard: expected NUMBER/COUNT from 1/1 to {MOST}/{MOST}, such as 3/16; found {one_line(text, 40)}"
            )
        return cls(int(first), int(last))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def encode_shard(pipeline: Pipeline, shard: Shard) -> EncodeReport:
    """Encode a share of the examples; rows that are known are reused, and what a killed process has left.

    Shards may run at the same time, and any of them twice.
    """
    paths, section, place = pipeline.paths, pipeline.encode, Place.from_environment()
    examples, unfinished = Examples(paths.examples), Unfinished.of(paths.encoded)
    path = unfinished.shard(shard.number, shard.count)
    waiting = f"{pipeline.name}: another process is encoding shard {shard}; waiting for it to finish"
    with hold_lock(path.with_suffix(".lock"), waiting=waiting):
        encoder = _shared_encoder(pipeline, examples, unfinished.folder)
        encode.check_room(unfinished.folder, examples, encoder, section, shares=shard.count)
        own, facts = Unfinished(path.with_suffix("")), Facts.of(encoder, section)
        cache = facts.cache(path, [*own.take_over(), *_files(paths.encoded)])
        workers = None if place.in_process else Workers(place, pipeline.kind)
        blocks = examples.share(shard.number, shard.count, *SPLITS)
        report = encode.write(path, own, Source(examples, encoder, section, facts, cache, workers, blocks))
        own.remove()
    return report


def join(pipeline: Pipeline) -> EncodeReport:
    """Put the shards together to the encodings that one process would write, to the byte; then check these.

    Raises DataError where a shard is missing or was encoded otherwise, and where the examples have changed since; the
    shards stay. They are removed once they are joined.
    """
    paths = pipeline.paths
    examples, unfinished = Examples(paths.examples), Unfinished.of(paths.encoded)
    encoder = _shared_encoder(pipeline, examples, unfinished.folder)
    _check_complete(pipeline.name, unfinished, Facts.of(encoder, pipeline.encode))
    report = encode.encode(paths.encoded, examples, encoder, pipeline.encode, only_join=True)
    return encode.finish(pipeline, encoder, report)


def summary(report: EncodeReport) -> str:
    """Return the report of a shard in a line."""
    return f"{report}; when all shards are there, join them with --join"


def summary_of_join(name: str, report: EncodeReport) -> str:
    """Return the report of a join in a few lines."""
    stage = f"encode@{name}"
    lines = [f"joined {report.unchanged:,} examples", *encode.finding_lines(report)]
    return "\n".join([*lines, f"`dvc repro {stage}` records it (all rows are reused); so does `dvc commit -f {stage}`"])


def _shared_encoder(pipeline: Pipeline, examples: Examples, folder: Path) -> Encoder[Any, Any, Any]:
    """Return the fitted encoder, which the first shard leaves for the others: texts are all read to fit one."""
    task = task_of(pipeline)
    facts = {
        "examples": examples.digest("train"),
        "encode": pipeline.encode.model_dump(mode="json"),
        "limits": pipeline.data.limits.model_dump(mode="json"),
    }
    key = fingerprint.of(facts, packages=PACKAGES, code=(Path(registry.__file__).parent / pipeline.kind,))
    place = folder / f"encoder-{key[:16]}"
    if place.is_dir():
        return task.Encoder.load(place)
    encoder = task.Encoder.fit(examples.of("train"), pipeline.encode, pipeline.data.limits)
    encoder.save(place)
    return encoder


def _check_complete(name: str, unfinished: Unfinished, facts: Facts) -> None:
    """Raise DataError where no number of shards is complete, with those that the most complete one lacks."""
    shards = unfinished.shards()
    if not shards:
        raise DataError(
            f"{unfinished.folder}: no shards; encode each with `flowerml encode {name} --shard 1/N`, … before --join"
        )
    problems = {count: _problems(count, paths, facts) for count, paths in shards.items()}
    count, lines = min(problems.items(), key=lambda item: (len(item[1]), item[0]))
    if lines:
        missing = [number for number in range(1, count + 1) if number in lines and not lines[number]]
        outdated = [number for number in lines if lines[number]]
        texts = [
            f"{_shown(numbers, count)} {'are' if len(numbers) > 1 else 'is'} {text}"
            for numbers, text in (
                (missing, "missing"),
                (outdated, "of other parameters, packages or processors"),
            )
            if numbers
        ]
        raise DataError(f"{unfinished.folder}: {'; '.join(texts)}; run them (again) with --shard, then --join")


def _problems(count: int, paths: dict[int, Path], facts: Facts) -> dict[int, bool]:
    """Return the numbers of the shards that are missing, or (True) were encoded otherwise."""
    problems = {}
    for number in range(1, count + 1):
        if number not in paths:
            problems[number] = False
        elif fingerprints_of(paths[number], facts.columns) != facts.fingerprints:
            problems[number] = True
    return problems


def _shown(numbers: list[int], count: int) -> str:
    shards = preview_list([f"{number}/{count}" for number in numbers], SHOWN)
    return f"{'shards' if len(numbers) > 1 else 'shard'} {shards}"


def _files(path: Path) -> list[Path]:
    try:
        return parts.files_of(path)
    except DataError:
        return []
