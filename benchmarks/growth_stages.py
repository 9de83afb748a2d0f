"""What benchmarks/growth.py measures: each stage of a pipeline, and the parts that see all examples or all trials."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowerml.checks import labels
from flowerml.checks.cosines import similar_rows
from flowerml.config.defaults import defaults
from flowerml.config.dotted import set_by_dotted_name
from flowerml.config.pipeline import Pipeline
from flowerml.data.examples import Key
from flowerml.engine.fit import Epoch
from flowerml.search.checkpoint import Checkpoint
from flowerml.search.study import Search
from flowerml.search.trial import Trial
from flowerml.tasks import image, text
from flowerml.tasks.image import checks as picture_checks
from flowerml.tasks.image.sample import SPECIES
from flowerml.tasks.pipelines import checked_pipeline
from flowerml.tasks.registry import TASKS
from flowerml.tasks.text import checks as text_checks
from flowerml.tracking.journal import Journal

STEPS = ("download", "extract", "encode", "train", "evaluate", "export")
SAMPLE_CLASSES = {"image": len(SPECIES), "text": 2}
CLASSES, DIMENSIONS = 100, 64  # of the vectors of many rows
COPIES = 100  # one row in so many is a copy of another, or has a wrong label

Work = Callable[[], Any]


@dataclass(frozen=True)
class Stage:
    """What is measured: `size` items at scale 1. `prepare` (number of items, folder) returns the work.

    `small` is the number of items whose cost is subtracted; 0 where nothing is.
    """

    unit: str
    size: int
    prepare: Callable[[int, Path], Work]
    small: int = 0


def pipeline_in(folder: Path, kind: str, *, examples: int, trials: int) -> Pipeline:
    """Return a pipeline on an archive of the folder with so many drawn or composed examples."""
    archive = folder / "sample.tar"
    values = {
        "data.source": str(archive),
        "data.sample_per_class": max(8, examples // SAMPLE_CLASSES[kind]),
        "train.epochs": 2,
        "train.search.trials": trials,
        **({"train.network": "ngrams"} if kind == "text" else {}),
    }
    sections = defaults(kind).sections
    set_by_dotted_name(sections, values)
    pipeline = checked_pipeline("growth", kind, sections, path=Path("growth"), root=folder)
    if not archive.exists():
        TASKS[kind].write_sample(archive, pipeline.data)
    return pipeline


def step(kind: str, name: str) -> Callable[[int, Path], Work]:
    """Return how to prepare a step of a pipeline; those before it have run in the same folder."""

    def prepare(items: int, folder: Path) -> Work:
        pipeline = pipeline_in(folder, kind, examples=items, trials=1)
        return lambda: import_module(f"flowerml.pipeline.{name}").run(pipeline)

    return prepare


def trained(items: int, folder: Path) -> Work:
    """Train with so many trials on a few texts."""
    pipeline = pipeline_in(folder, "text", examples=60, trials=items)
    for name in ("download", "extract", "encode"):
        import_module(f"flowerml.pipeline.{name}").run(pipeline)
    return lambda: import_module("flowerml.pipeline.train").run(pipeline)


def asked(items: int, folder: Path) -> Work:
    """Ask for the points of so many trials, and tell their made-up accuracies."""
    section = search_section(items)

    def work() -> None:
        for number, trial in enumerate(Search(section)):
            for epoch in made_up(number):
                if trial.report(epoch):
                    break

    return work


def recorded(items: int, folder: Path) -> Work:
    """Append the records of so many trials to a checkpoint."""
    section = search_section(items)

    def work() -> None:
        checkpoint = Checkpoint(folder / "checkpoint", "key", trials=items)
        for number in range(items):
            trial = Trial(number, section)
            trial.restore(made_up(number), state="complete", reason="")
            checkpoint.finish(trial, None)

    return work


def journalled(items: int, folder: Path) -> Work:
    """Write the journal of so many trials of 20 epochs, acknowledged one after the other."""

    def work() -> None:
        journal = Journal(folder / "runs.jsonl", experiment="1")
        for number in range(items):
            before = len(journal)
            run = f"trial {number}"
            journal.create(run, name=run, tags={"parent": "search"}, time=0)
            journal.log(run, params=[(f"parameter {index}", "0.001") for index in range(20)])
            for epoch in made_up(number):
                journal.log(run, metrics=[("loss", epoch.train_loss, 0, epoch.number)])
            journal.end(run, "FINISHED", time=1)
            journal.ids[run] = f"{number:032x}"
            journal.acknowledge(len(journal) - before)

    return work


def search_section(trials: int) -> Any:
    sections = defaults("image").sections
    sections["train"]["search"]["trials"] = trials
    return checked_pipeline("growth", "image", sections, path=Path("growth")).train


def made_up(number: int) -> list[Any]:
    """Return 20 epochs of a trial, whose accuracy rises to one that is drawn."""
    best = np.random.default_rng(number).uniform(0.5, 0.95)
    return [Epoch(epoch, 1 / epoch, 0.5, 1 / epoch, best * (1 - 0.8**epoch), 0.001, 0.1) for epoch in range(1, 21)]


def pictures_compared(items: int, folder: Path) -> Work:
    """Look for near duplicates among the signatures of smooth pictures."""
    rng, signatures = np.random.default_rng(0), np.empty((items, 272), np.uint8)
    steepness = 1 / (1 + np.add.outer(np.arange(8), np.arange(8)))
    for start in range(0, items, 20_000):
        count = min(20_000, items - start)
        frequencies = rng.standard_normal((count, 8, 8), np.float32) * steepness
        originals = frequencies[1::COPIES]
        copied = frequencies[::COPIES][: len(originals)]
        copied[:] = originals + 0.02 * copied
        pixels = (picture_checks._COSINES.T @ frequencies @ picture_checks._COSINES).astype(np.float32)
        rows = pixels[:, ::4][:, :, np.linspace(0, 31, 9).astype(int)]
        bits = np.stack([rows[:, :, 1:] > rows[:, :, :-1], frequencies > 0], axis=1).reshape(count, 128)
        gray = np.clip(128 + 40 * pixels[:, ::2, ::2], 0, 255).astype(np.uint8).reshape(count, 256)
        signatures[start : start + count] = np.concatenate([np.packbits(bits, axis=1), gray], axis=1)
    return lambda: image.near_duplicates(signatures, checks_section("image"))


def texts_compared(items: int, folder: Path) -> Work:
    """Look for near duplicates among the signatures of texts, of which one in twenty has the same boilerplate."""
    signatures = np.random.default_rng(0).integers(2**20, 2**32 - 1, (items, text_checks.SIGNATURE_SIZE), np.uint32)
    signatures[::COPIES] = signatures[1 : 1 + len(signatures[::COPIES])]
    signatures[::20, 0] = 7
    signatures.sort(axis=1)
    return lambda: text.near_duplicates(signatures, checks_section("text"))


def vectors_compared(items: int, folder: Path) -> Work:
    """Look for vectors of a high cosine."""
    vectors, _ = clouds(items)
    return lambda: similar_rows(vectors, 0.97, lambda pairs: np.ones(len(pairs), bool))


def labels_judged(items: int, folder: Path) -> Work:
    """Look for wrong labels."""
    vectors, targets = clouds(items)
    targets[::COPIES] = (targets[::COPIES] + 1) % CLASSES
    keys = [Key(str(row), "train", f"{target:03}", str(row)) for row, target in enumerate(targets.tolist())]
    return lambda: list(labels.findings(keys, vectors, {}))


def clouds(items: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return vectors of length 1 around the centers of their classes, some of them twice, and their classes."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, CLASSES, items)
    vectors = rng.standard_normal((CLASSES, DIMENSIONS), np.float32)[targets]
    vectors += rng.standard_normal(vectors.shape, np.float32)
    vectors[::COPIES] = vectors[1 : 1 + len(vectors[::COPIES])]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, targets


def checks_section(kind: str) -> Any:
    return checked_pipeline("growth", kind, defaults(kind).sections, path=Path("growth")).data.checks


STAGES: dict[str, Stage] = {
    **{
        f"{noun}/{name}": Stage(noun, size, step(kind, name), small=40)
        for kind, noun, size in (("image", "pictures", 120), ("text", "texts", 400))
        for name in STEPS
    },
    "search/trials": Stage("trials", 8, trained, small=2),
    "search/ask": Stage("trials", 60, asked, small=10),
    "search/checkpoint": Stage("trials", 600, recorded, small=10),
    "search/journal": Stage("trials", 600, journalled, small=10),
    "checks/pictures": Stage("rows", 100_001, pictures_compared),
    "checks/texts": Stage("rows", 100_001, texts_compared),
    "checks/cosines": Stage("rows", 100_001, vectors_compared),
    "checks/labels": Stage("rows", 100_001, labels_judged),
}
