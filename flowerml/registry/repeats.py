"""The classifiers that are compared under one name: a single one, or repeats of one training with other seeds."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flowerml.classifier import saved
from flowerml.classifier.classifier import Classifier
from flowerml.classifier.repeats import FOLDER, beside
from flowerml.config.paths import DESCRIPTION
from flowerml.core.errors import ModelError
from flowerml.registry import client
from flowerml.registry.locate import resolve_model

SEED = "train.seed"


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what a person calls it, and its classifiers; several are repeats of one training."""

    model: str
    classifiers: tuple[Classifier, ...]

    @property
    def first(self) -> Classifier:
        return self.classifiers[0]

    @property
    def digests(self) -> frozenset[str]:
        """Return the digests of the graphs: what tells two classifiers apart."""
        return frozenset(saved.digest(classifier.folder / saved.GRAPH) for classifier in self.classifiers)

    @property
    def data_digests(self) -> frozenset[str]:
        """Return the digests of the data that they were trained on, where these are recorded."""
        trained = (classifier.description["trained"].get("data_digest") for classifier in self.classifiers)
        return frozenset(digest for digest in trained if digest)


@contextmanager
def open_side(model: str, *, alone: bool) -> Iterator[Side]:
    """Yield the classifiers behind `model`, loaded; what was downloaded is removed after the block.

    `model` is as in `resolve_model`, or a folder of repeats (models/NAME/repeats). A classifier that has repeats beside
    it stands for these, unless `alone`. Raises ModelError, also where repeats differ in more than their seed.
    """
    path = None if client.is_address(model) else Path(model).expanduser()
    with ExitStack() as stack:

        def load(name: str) -> Classifier:
            return Classifier.load(stack.enter_context(resolve_model(name)))

        if path is not None and (repeats := _numbered(path)):
            yield Side(model, _checked([load(str(repeat)) for repeat in repeats], "compare one of them"))
            return
        classifier = load(model)
        others = [] if path is None or alone else _numbered(beside(classifier.folder))
        # The first repeat is the classifier itself.
        checked = _checked([classifier, *(load(str(repeat)) for repeat in others)], "pass --alone")
        yield Side(model, checked[1:] or checked)


def _numbered(folder: Path) -> list[Path]:
    """Return the numbered classifiers of a folder of repeats, in the order of their numbers; none of another folder."""
    # Not resolved: what a link is called counts, and one to itself has no end.
    if not folder.absolute().name.endswith(FOLDER) or not folder.is_dir():
        return []
    numbered = [path for path in folder.iterdir() if path.name.isdecimal() and (path / DESCRIPTION).is_file()]
    return sorted(numbered, key=lambda path: int(path.name))


def _checked(classifiers: list[Classifier], advice: str) -> tuple[Classifier, ...]:
    """Return repeats of one training; raises ModelError where they differ in more than their seed."""
    first = classifiers[0]
    for repeat in classifiers[1:]:
        parameters, expected = repeat.description["parameters"], first.description["parameters"]
        names = parameters.keys() | expected.keys()
        differing = sorted(name for name in names - {SEED} if parameters.get(name) != expected.get(name))
        if differing or repeat.description["trained"].get("data_digest") != first.description["trained"].get(
            "data_digest"
        ):
            other = f"another {differing[0]}" if differing else "one that was trained on other data"
            raise ModelError(
                f"{repeat.folder}: expected a repeat of {first.folder}, with another seed only, found {other}; "
                f"train again, or {advice}"
            )
    return tuple(classifiers)
