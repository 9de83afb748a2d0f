"""The folder of repeats: classifiers of one recipe, each trained with another seed, numbered from 1.

The first is a copy of the classifier that is served, so that the folder has all of them: its accuracies are a sample of
what this recipe gives.
"""

from collections.abc import Iterator
from pathlib import Path

from flowerml.core import files
from flowerml.core.errors import ModelError

FOLDER = "repeats"  # beside the classifier
LIST = "repeats.json"  # the numbers and seeds; it is there without repeats, too
USUAL = "classifier"  # the name of a classifier's folder in models/NAME


def beside(classifier: Path) -> Path:
    """Return the folder of repeats of a classifier in a folder of any name.

    >>> beside(Path("models/birds/classifier")).as_posix(), beside(Path("birds")).as_posix()
    ('models/birds/repeats', 'birds-repeats')
    """
    name = FOLDER if classifier.name == USUAL else f"{classifier.name}-repeats"
    return classifier.with_name(name)


def others(folder: Path) -> Iterator[Path]:
    """Yield the folders of all repeats but the first, which is the classifier itself. Raises ModelError."""
    if (folder / LIST).is_file():
        yield from (folder / str(number) for number in _numbers(folder / LIST)[1:])


def _numbers(path: Path) -> list[int]:
    try:
        return sorted(map(int, files.read_json(path)["seeds"]))
    except (OSError, ValueError, TypeError, KeyError):
        raise ModelError(
            f"{path}: expected a seed for each numbered repeat; train again, or remove its folder"
        ) from None
