"""Write the folder of repeats: see `flowerml.classifier.repeats`."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.repeats import LIST
from flowerml.core import files
from flowerml.core.errors import FlowermlError

if TYPE_CHECKING:
    from flowerml.search.networks import Repeats, Winner


def check(folder: Path) -> None:
    """Raise FlowermlError for a folder with other contents, which repeats would replace."""
    if folder.exists() and not (folder / LIST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FlowermlError(
            f"{folder}: has other contents, which repeats would replace; move them, or choose another --save-dir"
        )


def write(
    folder: Path,
    first: Classifier,
    repeats: "Repeats",
    save: "Callable[[Winner, Path], Classifier]",
    *,
    always: bool,
) -> bool:
    """Replace the folder by the first classifier and its repeats; return whether there are any.

    Without repeats it has only an empty list, if it is to exist `always`; else former ones are removed.
    """
    if not len(repeats) and not always:
        if folder.exists():
            files.remove(folder)
        return False
    with files.replacing(folder) as temporary:
        temporary.mkdir()
        seeds = {}
        if len(repeats):
            shutil.copytree(first.folder, temporary / "1")
            seeds["1"] = first.description["parameters"]["train.seed"]
        for number, winner in enumerate(repeats, start=2):
            save(winner, temporary / str(number))
            seeds[str(number)] = winner.trial.section.seed
        files.write_json(temporary / LIST, {"seeds": seeds})
    return bool(len(repeats))
