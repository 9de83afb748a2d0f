"""Measure how well a classifier knows what it does not know: python benchmarks/ood.py CLASSIFIER INSIDE OUTSIDE …

INSIDE are examples like those that it was trained on, and each OUTSIDE is of another kind: files, folders, globs or
tables, as `flowerml predict` takes them, or an examples.parquet of `flowerml train --work-dir`, whose test split is
taken. Noise is made here: of the letters and digits, and of the words of INSIDE in random order; or pictures of random
pixels and of plain colors.

    python benchmarks/ood.py models/tickets/classifier data/tickets/examples.parquet reviews.csv licences/

For each set: the area under the ROC curve of `out_of_distribution` against INSIDE (ties count half), also on the first
words of each text, and the shares that are known and that are rejected as unlike the training examples. Of INSIDE the
known share should be the acceptance. Milliseconds are those of the graph for one input of INSIDE, with the detector and
without it.
"""

import argparse
import io
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.prediction import Prediction
from flowerml.classifier.saved import GRAPH
from flowerml.cli.inputs import Stdin, TableColumns, expanded
from flowerml.core.errors import FlowermlError
from flowerml.data.examples import Examples
from flowerml.engine.onnx import Graph

FEW_WORDS = 8
LENGTHS = (3, 10, 30, 100)  # words of a text of noise
NOISE = 300  # inputs of each kind
TIMED = 100
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Judged:
    """The scores of a set, and which of its inputs are known and which are rejected as strange."""

    scores: NDArray[np.float64]
    known: NDArray[np.bool_]

    @classmethod
    def by(cls, classifier: Classifier, raws: list[Any]) -> "Judged":
        """Return the classifier's judgement; inputs that cannot be read are left out."""
        answers = [answer for answer in classifier.predict_each(raws, top_k=1) if isinstance(answer, Prediction)]
        scores = [answer.out_of_distribution for answer in answers]
        if not answers or None in scores:
            raise FlowermlError("expected a classifier with a detector and inputs that it can read")
        return cls(np.array(scores, np.float64), np.array([answer.known for answer in answers]))

    def auroc(self, inside: "Judged") -> float:
        """Return how often an input of this set has a higher score than one inside."""
        is_outside = np.repeat([0, 1], [len(inside.scores), len(self.scores)])
        return float(roc_auc_score(is_outside, np.concatenate([inside.scores, self.scores])))


def read(classifier: Classifier, path: str, columns: TableColumns, most: int) -> list[Any]:
    """Return at most `most` raw inputs of a set, evenly spaced."""
    if path.endswith("examples.parquet"):
        raws: list[Any] = [example.raw for example in Examples(Path(path)).of("test")]
    else:
        raws = [item.raw(classifier.task) for item in expanded([path], classifier.task, Stdin(), columns)]
    return raws[:: max(1, -(-len(raws) // most))]


def noise(inside: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield sets of noise of the same type as the inputs inside."""
    rng = random.Random(0)
    if isinstance(inside[0], str):
        words = [word for raw in inside for word in raw.split()]
        distinct = sorted(set(words))

        def texts(word: Any) -> list[str]:
            return [" ".join(word() for _ in range(LENGTHS[number % len(LENGTHS)])) for number in range(NOISE)]

        yield "noise: letters", texts(lambda: "".join(rng.choices(LETTERS, k=rng.randint(2, 9))))
        yield "noise: numbers", texts(lambda: str(rng.randint(0, 10 ** rng.randint(1, 6))))
        yield "noise: words", texts(lambda: rng.choice(words))
        yield "noise: distinct words", texts(lambda: rng.choice(distinct))
    else:
        pixels = np.random.default_rng(0)
        sides = (256, 64, 16, 4)
        grain = [pixels.integers(0, 256, (side, side, 3), np.uint8) for side in sides * (NOISE // len(sides))]
        yield "noise: pixels", [_png(Image.fromarray(array).resize((256, 256))) for array in grain]
        plain = [tuple(pixels.integers(0, 256, 3).tolist()) for _ in range(NOISE)]
        yield "noise: plain colors", [_png(Image.new("RGB", (256, 256), color)) for color in plain]


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def milliseconds(classifier: Classifier, raws: list[Any]) -> tuple[float, float]:
    """Return the median times of the graph for one input, with the detector and without it."""
    prepared = [classifier.preprocessing.collate([classifier.preprocessing.transform(raw)]) for raw in raws]
    with tempfile.TemporaryDirectory() as folder:
        model = onnx.load(classifier.folder / GRAPH)
        del model.graph.output[1:]  # ONNX Runtime leaves out what no output needs
        onnx.save(model, Path(folder, GRAPH))
        graphs = [Graph(classifier.folder / GRAPH, threads=1), Graph(Path(folder, GRAPH), threads=1)]
        times: list[list[float]] = [[], []]
        for inputs in prepared:
            for graph, taken in zip(graphs, times, strict=True):
                graph.run(inputs)
                start = perf_counter()
                graph.run(inputs)
                taken.append(1000 * (perf_counter() - start))
    return median(times[0]), median(times[1])


def main() -> None:
    """Print a line for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("inside")
    parser.add_argument("outside", nargs="*")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--most", type=int, default=2000, help="inputs of each set")
    given = parser.parse_args()
    classifier = Classifier.load(given.classifier)
    columns = TableColumns(given.text_column)
    raws = read(classifier, given.inside, columns, given.most)
    inside = Judged.by(classifier, raws)
    shortened = _few_words(raws)
    short_inside = Judged.by(classifier, shortened) if shortened else None
    print(
        f"{'set':32} {'inputs':>6} {'AUROC':>6} {'known':>6} {'strange':>7}"
        + f"  AUROC, {FEW_WORDS} words" * bool(shortened)
    )
    print(_line(given.inside, inside, None, short_inside, None))
    sets = [*noise(raws), *((path, read(classifier, path, columns, given.most)) for path in given.outside)]
    for name, outside in sets:
        short = Judged.by(classifier, _few_words(outside)) if short_inside else None
        print(_line(name, Judged.by(classifier, outside), inside, short, short_inside), flush=True)
    timed = milliseconds(classifier, list(islice(raws, TIMED)))
    print(f"the graph takes {timed[0]:.2f} ms an input, {timed[1]:.2f} ms without the detector")


def _few_words(raws: list[Any]) -> list[str]:
    return [" ".join(raw.split()[:FEW_WORDS]) for raw in raws if isinstance(raw, str) and raw.strip()]


def _line(name: str, judged: Judged, inside: Judged | None, short: Judged | None, short_inside: Judged | None) -> str:
    share = f"{judged.auroc(inside):6.3f}" if inside else f"{'':6}"
    strange = float((judged.scores > 0.5).mean())
    line = f"{name[-32:]:32} {len(judged.scores):6,} {share} {judged.known.mean():6.3f} {strange:7.3f}"
    return line + (f"  {short.auroc(short_inside):.3f}" if short and short_inside else "")


if __name__ == "__main__":
    try:
        main()
    except FlowermlError as error:
        sys.exit(f"error: {error}")
