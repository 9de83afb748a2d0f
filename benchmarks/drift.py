"""Measure how often drift is found, where there is none and where there is: python benchmarks/drift.py CLASSIFIER DATA

DATA are examples that CLASSIFIER was not trained on: an examples.parquet of `flowerml train --work-dir`, whose splits
valid and test are taken. Both the reference and the window are drawn anew each time, from all of them: with one
reference a benchmark would toss a single coin.

    python benchmarks/drift.py models/flowers/classifier .flowerml/data/flower_data/examples.parquet
    python benchmarks/drift.py models/tickets/classifier .flowerml/data/tickets/examples.parquet --outside german.txt

Changes of pictures: half the light (darkened), a Gaussian blur with a radius of 2 pixels of 256 (blurred), JPEG of
quality 10 (compressed). Changes of texts: upper case, and each OUTSIDE, inputs of another kind as `flowerml predict`
takes them (another language, another topic). Where DATA has classes that the classifier does not know, half of the
window are of these (new classes), and the draws without a change have none of them.

Prints the share of draws with an alarm, and which test had the smallest p-value most often. The bars: at most 5 % of
the draws without a change, at least 95 % of those with any of the changes; exit code 1 where they do not hold.
"""

import argparse
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from flowerml.classifier.classifier import Classifier
from flowerml.cli.inputs import Stdin, TableColumns, expanded
from flowerml.core.errors import FlowermlError, InputError
from flowerml.data.examples import Examples, Raw
from flowerml.monitoring.drift import compare
from flowerml.monitoring.record import Record
from flowerml.monitoring.reference import ROWS, Reference
from flowerml.tasks.properties import input_properties

FALSE_ALARMS, FOUND = 0.05, 0.95
DARKER, BLUR, QUALITY = 0.5, 2, 10
SIDE = 256  # pixels of the short side for which BLUR is the radius


@dataclass(frozen=True)
class Pool:
    """The records of examples, and for each change those of the same examples changed, or of inputs of another kind.

    `new` are examples of classes that the classifier does not know.
    """

    known: list[Record]
    new: list[Record]
    changed: dict[str, list[Record]]
    outside: dict[str, list[Record]]


@dataclass(frozen=True)
class Alarms:
    """How many draws of one change had an alarm, which test was the most significant, and seconds of a comparison."""

    change: str
    draws: int
    alarms: int
    first: str
    seconds: float

    @property
    def share(self) -> float:
        """Return the share of draws with an alarm."""
        return self.alarms / self.draws


def read(classifier: Classifier, path: str, columns: TableColumns, most: int) -> tuple[list[Raw], list[Raw]]:
    """Return at most `most` inputs of classes that the classifier knows, evenly spaced, and as many of others."""
    if path.endswith("examples.parquet"):
        examples = list(Examples(Path(path)).of("valid", "test"))
        known: list[Raw] = [example.raw for example in examples if example.label in classifier.classes]
        new: list[Raw] = [example.raw for example in examples if example.label not in classifier.classes]
    else:
        inputs = [item.raw(classifier.task) for item in expanded([path], classifier.task, Stdin(), columns)]
        known, new = [raw for raw in inputs if not isinstance(raw, InputError)], []
    return _some(known, most), _some(new, most)


def records(classifier: Classifier, raws: Sequence[Raw]) -> list[Record]:
    """Return the records of inputs, as the log has them; those that cannot be read are left out."""
    model = {"name": "benchmark", "version": "1"}
    answers = zip(raws, classifier.predict_each(raws, top_k=1), strict=True)
    return [
        Record.of(raw, answer, time=0.0, request="", model=model, properties=input_properties(classifier.task, raw))
        for raw, answer in answers
        if not isinstance(answer, InputError)
    ]


def changes(raw: Raw) -> dict[str, Callable[[Any], Raw]]:
    """Return the changes of inputs of this type, by name."""
    if isinstance(raw, str):
        return {"upper case": str.upper}
    return {
        f"darkened to {DARKER:.0%}": lambda raw: _redrawn(
            raw, lambda image: ImageEnhance.Brightness(image).enhance(DARKER)
        ),
        "blurred": lambda raw: _redrawn(raw, _blurred),
        f"JPEG of quality {QUALITY}": lambda raw: _redrawn(raw, lambda image: image, quality=QUALITY),
    }


def _redrawn(raw: bytes, change: Callable[[Image.Image], Image.Image], quality: int = 92) -> bytes:
    buffer = io.BytesIO()
    change(Image.open(io.BytesIO(raw)).convert("RGB")).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(BLUR * min(image.size) / SIDE))


def _some(raws: list[Raw], most: int) -> list[Raw]:
    return raws[:: max(1, -(-len(raws) // most))]


def pool_of(classifier: Classifier, data: str, outside: Sequence[str], columns: TableColumns, most: int) -> Pool:
    """Return the records of all inputs, changed and unchanged."""
    known, new = read(classifier, data, columns, most)
    changed = {name: records(classifier, [change(raw) for raw in known]) for name, change in changes(known[0]).items()}
    others = {path: records(classifier, [*chain(*read(classifier, path, columns, most))]) for path in outside}
    return Pool(records(classifier, known), records(classifier, new), changed, others)


def windows(pool: Pool, size: int) -> dict[str, Callable[[np.random.Generator], tuple[list[Record], list[Record]]]]:
    """Return for each change how reference and window are drawn, without an example in both."""

    def split(generator: np.random.Generator, inside: int) -> tuple[list[int], list[int]]:
        order = generator.permutation(len(pool.known)).tolist()
        return order[inside : inside + ROWS], order[:inside]

    def drawn(source: list[Record]) -> Callable[[np.random.Generator], tuple[list[Record], list[Record]]]:
        def draw(generator: np.random.Generator) -> tuple[list[Record], list[Record]]:
            reference, window = split(generator, size)
            return [pool.known[row] for row in reference], [source[row] for row in window]

        return draw

    def mixed(source: list[Record], share: float) -> Callable[[np.random.Generator], tuple[list[Record], list[Record]]]:
        def draw(generator: np.random.Generator) -> tuple[list[Record], list[Record]]:
            reference, window = split(generator, round((1 - share) * size))
            rows = generator.permutation(len(source))[: round(share * size)]
            return [pool.known[row] for row in reference], [
                *(pool.known[row] for row in window),
                *(source[row] for row in rows),
            ]

        return draw

    kinds = {"no change": drawn(pool.known)}
    kinds |= {name: drawn(source) for name, source in pool.changed.items()}
    if pool.new:
        kinds["half of the classes new"] = mixed(pool.new, 0.5)
    return kinds | {name: mixed(source, 1.0) for name, source in pool.outside.items()}


def measure(pool: Pool, features: tuple[str, ...], *, size: int, draws: int) -> Iterator[Alarms]:
    """Yield how often each change is found in windows of this size."""
    for change, draw in windows(pool, size).items():
        first: Counter[str] = Counter()
        alarms, seconds = 0, 0.0
        for number in range(draws):
            generator = np.random.default_rng([number, size])
            reference, window = draw(generator)
            start = perf_counter()
            drift = compare(Reference.of(reference, features=features), window, seed=number)
            seconds += perf_counter() - start
            alarms += drift.drifted
            first[drift.comparisons[0].name] += 1
        yield Alarms(change, draws, alarms, first.most_common(1)[0][0], seconds / draws)


def main() -> None:
    """Print a line for each change and size of the window, and what the bars say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("data")
    parser.add_argument("--outside", nargs="*", default=[], help="inputs of another kind")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--sizes", type=int, nargs="+", default=[500], help="of windows; the bars are for the largest")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--most", type=int, default=3000, help="inputs of each set")
    given = parser.parse_args()
    classifier = Classifier.load(given.classifier)
    columns = TableColumns(given.text_column)
    pool = pool_of(classifier, given.data, given.outside, columns, given.most)
    features = classifier.features
    print(
        f"{len(pool.known):,} examples, {len(pool.new):,} of new classes, {len(features)} features; {given.draws} draws"
    )
    print("| change | window | alarms | most significant | seconds |\n| --- | --- | --- | --- | --- |")
    missed = []
    for size in sorted(given.sizes):
        for result in measure(pool, features, size=size, draws=given.draws):
            holds = result.share <= FALSE_ALARMS if result.change == "no change" else result.share >= FOUND
            print(
                f"| {result.change} | {size} | {result.share:.3f} | {result.first} | {result.seconds:.2f} |", flush=True
            )
            if size == max(given.sizes) and not holds:
                missed.append(result.change)
    if missed:
        sys.exit(f"the bars do not hold for: {', '.join(missed)}")
    print(f"the bars hold: at most {FALSE_ALARMS:.0%} alarms without a change, at least {FOUND:.0%} with any")


if __name__ == "__main__":
    try:
        main()
    except FlowermlError as error:
        sys.exit(f"error: {error}")
