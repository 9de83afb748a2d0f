"""The answers to the pieces of a source, in order: in this process, or on workers."""

import platform
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.classifier.classifier import Classifier
from flowerml.core.errors import DataError
from flowerml.pipeline.score.pieces import Piece
from flowerml.pipeline.score.reading import Reader
from flowerml.pipeline.score.rows import Row, answer_rows

if TYPE_CHECKING:
    from flowerml.engine.executors import Place, Shared

AHEAD = 2  # pieces a worker: one that it answers, and the next, so that it never waits


@dataclass(frozen=True)
class Sight:
    """A file or folder that a worker reads by itself, and the size of a file."""

    path: Path
    size: int | None

    @classmethod
    def of(cls, path: Path) -> "Sight":
        return cls(path.absolute(), path.stat().st_size if path.is_file() else None)

    def check(self) -> None:
        """Raise DataError where it is not here, as the inputs would all be unreadable."""
        if not self.path.exists() or self != Sight.of(self.path):
            raise DataError(
                f"{self.path}: the worker on {platform.node()} does not see this source, or another one; put it on a "
                "disk that all machines share or into a bucket (s3://…), or score it with FLOWERML_ENGINE=local"
            )


@dataclass(frozen=True)
class Job:
    """What a worker needs besides the classifier and the pieces."""

    names: dict[str, str]
    top_k: int
    sight: Sight | None = None


class Answerer:
    """Answers pieces with a classifier that is loaded once."""

    def __init__(self, classifier: Classifier, job: Job) -> None:
        self._classifier, self._job = classifier, job
        self._reader = Reader(classifier.task)

    def answer(self, piece: Piece) -> list[Row]:
        """Return the rows of a piece. Raises DataError."""
        return list(answer_rows(self._classifier, self._reader.items(piece), top_k=self._job.top_k))


def start(folder: "Shared", job: Job, threads: int) -> Answerer:
    """Return what a worker answers with."""
    if job.sight is not None:
        job.sight.check()
    classifier = Classifier.load(folder.path(), threads=threads)
    classifier.names.update(job.names)
    return Answerer(classifier, job)


def answers(classifier: Classifier, job: Job, pieces: Iterable[Piece], place: "Place") -> Iterator[list[Row]]:
    """Yield the rows of each piece, in order. Raises DataError."""
    if place.in_process:
        yield from map(Answerer(classifier, job).answer, pieces)
        return
    from flowerml.engine.executors import machine_facts, open_pool, ordered

    threads = place.threads_of_worker
    with open_pool(place, threads=threads, facts=machine_facts()) as pool:
        arguments = (pool.share(classifier.folder), job, threads)
        factory = f"{__name__}:{start.__name__}"
        with closing(ordered(pool, factory, arguments, "answer", pieces, ahead=AHEAD * pool.size)) as results:
            yield from results
