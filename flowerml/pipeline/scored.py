"""What a classifier says of a split's examples: in this process or on workers, with the same bits.

The last bits of a probability may depend on the other inputs of a pass through the network. So the examples are cut
where one process would begin a pass, and a worker reads its own from the table.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flowerml.classifier.classifier import BATCH_SIZE, Classifier, Probabilities
from flowerml.data.examples import Block, Example, Examples, Key
from flowerml.engine.executors import Place, machine_facts, open_pool, ordered
from flowerml.engine.parallel import batches

if TYPE_CHECKING:
    from flowerml.data.examples import Raw
    from flowerml.engine.executors import Shared

UNIT = 256  # examples, or somewhat more: what a worker scores at a time
FEW = 4 * UNIT  # examples for which starting workers takes longer than it saves
AHEAD = 2  # units a worker
SPLITS = ("train", "valid", "test")  # of all rows of a table

Where = Callable[[Key], bool]
Properties = Mapping[str, float | str]


@dataclass(frozen=True)
class Scores:
    """The scores of N examples: probabilities [N, C], and strangeness [N] where there is a detector.

    `properties` [N] are those of the raw inputs, where asked for, and `keys` [N] those of the examples.
    """

    keys: list[Key]
    probabilities: Probabilities
    strangeness: NDArray[np.float64] | None
    properties: list[Properties]


@dataclass(frozen=True)
class Unit:
    """Some examples: the blocks of the table that hold them, and their ids."""

    blocks: tuple[Block, ...]
    ids: tuple[str, ...]


@dataclass(frozen=True)
class UnitScores:
    """The scores of the examples of a unit, as in `Scores`."""

    probabilities: Probabilities
    strangeness: NDArray[np.float64] | None
    properties: list[Properties]


@dataclass(frozen=True)
class Job:
    """How examples are scored."""

    split: str
    batch_size: int
    describe: str | None
    accelerated: bool


class Scorer:
    """Scores examples with a classifier that is loaded once."""

    def __init__(self, classifier: Classifier, examples: Examples, job: Job) -> None:
        self._classifier, self._examples, self._job = classifier, examples, job

    def score(self, unit: Unit) -> UnitScores:
        """Return the scores of a unit's examples. Raises InputError."""
        ids = set(unit.ids)
        return self.of(self._examples.of(self._job.split, where=lambda key: key.id in ids, blocks=unit.blocks))

    def of(self, examples: Iterator[Example]) -> UnitScores:
        """Return the scores of examples. Raises InputError."""
        describe = None if self._job.describe is None else pkgutil.resolve_name(self._job.describe)
        properties: list[Properties] = []

        def raws() -> "Iterator[Raw]":
            for example in examples:
                if describe is not None:
                    properties.append(describe(self._classifier.task, example.raw))
                yield example.raw

        return UnitScores(*self._classifier.scored(raws(), batch_size=self._job.batch_size), properties)


def start(folder: "Shared", table: "Shared", job: Job, threads: int) -> Scorer:
    """Return what a worker scores with."""
    classifier = Classifier.load(folder.path(), threads=threads, accelerated=job.accelerated)
    return Scorer(classifier, Examples(table.path()), job)


def scores(
    classifier: Classifier,
    examples: Examples,
    split: str,
    *,
    where: Where = lambda key: True,
    batch_size: int = BATCH_SIZE,
    describe: str | None = None,
    accelerated: bool = False,
) -> Scores:
    """Return the scores of a split's examples for which `where` holds, in the order of the table; raises InputError.

    They are computed where FLOWERML_ENGINE and FLOWERML_WORKERS say, unless the examples are few. `describe` is the
    "package.module:function" that returns the properties of a task's raw input; None for none.
    """
    place = Place.from_environment()
    job = Job(split, batch_size, describe, accelerated)
    keys = [key for key in examples.keys(split) if where(key)]
    if place.in_process or len(keys) <= FEW:
        whole = Scorer(classifier, examples, job).of(examples.of(split, where=where))
        return Scores(keys, whole.probabilities, whole.strangeness, whole.properties)
    located = list(_located(examples, split, where))
    results = list(_on_workers(classifier, examples, job, located, place))
    strangeness = [result.strangeness for result in results if result.strangeness is not None]
    return Scores(
        keys,
        np.concatenate([result.probabilities for result in results]),
        np.concatenate(strangeness) if strangeness else None,
        list(chain.from_iterable(result.properties for result in results)),
    )


def _on_workers(
    classifier: Classifier, examples: Examples, job: Job, located: "Sequence[tuple[Block, Key]]", place: Place
) -> Iterator[UnitScores]:
    size = classifier.pass_size(job.batch_size)
    units = map(_unit, batches(located, -(-UNIT // size) * size))
    threads = place.threads_of_worker
    with open_pool(place, threads=threads, facts=machine_facts()) as pool:
        arguments = (pool.share(classifier.folder), pool.share(examples.path), job, threads)
        factory = f"{__name__}:{start.__name__}"
        with closing(ordered(pool, factory, arguments, "score", units, ahead=AHEAD * pool.size)) as results:
            yield from results


def _located(examples: Examples, split: str, where: Where) -> Iterator[tuple[Block, Key]]:
    """Yield the wanted examples' keys, each with the block of its own row alone."""
    for block in examples.blocks():
        keys = examples.keys(*SPLITS, blocks=[block])
        for row, key in enumerate(keys, block.start):
            if key.split == split and where(key):
                yield replace(block, start=row, stop=row + 1), key


def _unit(located: "Sequence[tuple[Block, Key]]") -> Unit:
    """Return some examples as a unit, whose blocks are the stretches of row groups that hold them."""
    blocks = []
    for _, rows in groupby((block for block, _ in located), key=lambda block: (block.part, block.group)):
        first, *others = rows
        blocks.append(replace(first, stop=others[-1].stop if others else first.stop))
    return Unit(tuple(blocks), tuple(key.id for _, key in located))
