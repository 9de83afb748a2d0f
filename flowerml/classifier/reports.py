"""The folder of reports that `flowerml train` leaves beside a classifier."""

import shutil
from pathlib import Path

from flowerml.classifier.repeats import USUAL
from flowerml.core import files
from flowerml.core.errors import FlowermlError

FOLDER = "report"
MARK = "metrics.json"  # in the folder of every report


def beside(classifier: Path) -> Path:
    """Return the folder of reports of a classifier in a folder of any name.

    >>> beside(Path("models/birds/classifier")).as_posix(), beside(Path("birds")).as_posix()
    ('models/birds/report', 'birds-report')
    """
    return classifier.with_name(FOLDER if classifier.name == USUAL else f"{classifier.name}-{FOLDER}")


def check(folder: Path) -> None:
    """Raise FlowermlError for a folder with other contents, which the reports would replace."""
    if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FlowermlError(
            f"{folder}: has other contents, which the report would replace; move them, or choose another --save-dir"
        )


def replace(folder: Path, reports: Path) -> None:
    """Replace the folder by a copy of `reports`, atomically."""
    with files.replacing(folder) as temporary:
        shutil.copytree(reports, temporary)
