"""The published data sets that `data.source` knows by name: their URLs, splits and class names."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowerml.core import files
from flowerml.core.errors import DataError


@dataclass(frozen=True)
class File:
    """A file on the web. `checksum` is "md5:…" or "sha256:…", None where its publisher gives none."""

    url: str
    checksum: str | None = None


@dataclass(frozen=True)
class Published:
    """A data set. `split_table` makes its table of splits from `extra_files`; `class_names` returns {class: name}."""

    kind: str
    archive: File
    note: str
    extra_files: Mapping[str, File]
    split_table: Callable[[Mapping[str, Path], Path], None] | None = None
    class_names: Callable[[], dict[str, str]] | None = None


def _official_split(paths: Mapping[str, Path], target: Path) -> None:
    """Write Oxford's two .mat files as a table of file, label and split: 1,020 train, 1,020 valid, 6,149 test."""
    labels = _matrix(paths["imagelabels"], "labels")
    splits = {
        name: _matrix(paths["setid"], key) for name, key in (("train", "trnid"), ("valid", "valid"), ("test", "tstid"))
    }
    with files.replacing(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label", "split"))
        for name, numbers in splits.items():
            writer.writerows((f"image_{number:05d}.jpg", labels[number - 1], name) for number in numbers)


def _matrix(path: Path, name: str) -> list[int]:
    """Return a row of integers in a MATLAB file."""
    from scipy.io import loadmat

    try:
        return [int(value) for value in loadmat(path)[name].ravel()]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(
            f"{path}: expected a MATLAB file with {name!r} ({error}); remove it, then re-run the command"
        ) from None


def _flower_names() -> dict[str, str]:
    from torchvision.datasets import Flowers102

    return {str(number): name for number, name in enumerate(Flowers102.classes, 1)}


_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
_FLOWERS = "Oxford 102 Flowers (Nilsback & Zisserman, 2008); no licence is stated: for research, with citation"

PUBLISHED = {
    "flowers102": Published(
        kind="image",
        archive=File(f"{_OXFORD}/102flowers.tgz", "md5:52808999861908f626f3c1f4e79d11fa"),
        extra_files={
            "imagelabels": File(f"{_OXFORD}/imagelabels.mat", "md5:e0620be6f572b9609742df49c70aed4d"),
            "setid": File(f"{_OXFORD}/setid.mat", "md5:a5357ecc9cb78c4bef273ce3793fc85c"),
        },
        split_table=_official_split,
        class_names=_flower_names,
        note=_FLOWERS,
    ),
    "flowers102-notebook": Published(
        kind="image",
        archive=File("https://s3.amazonaws.com/content.udacity-data.com/nd089/flower_data.tar.gz"),
        extra_files={},
        class_names=_flower_names,
        note=f"{_FLOWERS}. In the course's split",
    ),
    "imdb": Published(
        kind="text",
        archive=File(
            "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz", "md5:7c2ac02c03563afcf9b574c7e56c153a"
        ),
        extra_files={},
        note="Large Movie Review Dataset (Maas et al., 2011); no licence is stated: for research, with citation",
    ),
}
