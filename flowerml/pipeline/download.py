"""Where a pipeline's data comes from: `sample`, a published data set, a URL, or a path on this machine."""

import difflib
import os
from pathlib import Path
from urllib.parse import quote

from flowerml.config.paths import DOWNLOADS
from flowerml.core import files
from flowerml.core.errors import DataError
from flowerml.data import download as fetching
from flowerml.data.catalogue import PUBLISHED, File, Published
from flowerml.data.layout import composed
from flowerml.data.split_table import SplitTable
from flowerml.tasks.registry import Pipeline

SAMPLE = "sample"
PAUSE = 1.0  # seconds before a download is tried again, twice as long each time
MIRROR = "FLOWERML_MIRROR"  # a URL under which copies are found as HOST/PATH, for networks that reach nothing else


def fetch(pipeline: Pipeline) -> None:
    """Put the source where `extract` reads it, and the category names and the table of splits beside it.

    What is downloaded stays in data/downloads, for all pipelines. That, and a folder or file of the user's, is not
    copied: a symbolic link leads to it, and through the link DVC sees whether its contents have changed.
    """
    source = pipeline.data.source
    published = PUBLISHED.get(source)
    if source == SAMPLE:
        pipeline.task.write_sample(pipeline.paths.archive, pipeline.data)
    elif published:
        _fetch_published(published, pipeline)
    elif fetching.is_url(source):
        _link(_downloaded(File(source), pipeline), pipeline.paths.archive)
    else:
        _link(_existing(source, f"{pipeline.name}.data.source", _expected(pipeline)), pipeline.paths.archive)
    _fetch_names(pipeline, published)
    _fetch_split_table(pipeline, published)


def category_names(path: Path) -> dict[str, str]:
    """The names of classes in a JSON object of class -> name; raises DataError."""
    try:
        names = files.read_json(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path.resolve()}: not valid JSON ({error})") from None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise DataError(f'{path.resolve()}: expected a JSON object of class -> name, such as {{"21": "fire lily"}}')
    return {composed(label): name for label, name in names.items()}


def check_names(names: dict[str, str], classes: list[str], path: Path) -> None:
    """Raises DataError unless there are no names at all, or one for every class."""
    missing = [label for label in classes if label not in names]
    if names and missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise DataError(
            f"{path.resolve()}: no name for {len(missing)} of the {len(classes)} classes ({shown}); it names "
            f"{', '.join(list(names)[:5])}, …: add the missing ones, or set data.category_names to null"
        )


def split_table(path: Path) -> SplitTable | None:
    """The table that `fetch` put beside the source; None where there is none."""
    return SplitTable.read(path) if path.stat().st_size else None


def _fetch_published(published: Published, pipeline: Pipeline) -> None:
    if published.kind != pipeline.kind:
        raise DataError(
            f"{pipeline.name}.data.source: {pipeline.data.source!r} is for a pipeline of kind {published.kind}, and "
            f"{pipeline.name} is of kind {pipeline.kind}; expected {_expected(pipeline)}"
        )
    print(f"{pipeline.data.source}: {published.note}")
    _link(_downloaded(published.archive, pipeline), pipeline.paths.archive)


def _downloaded(file: File, pipeline: Pipeline) -> Path:
    target = DOWNLOADS / fetching.place(file.url)
    fetching.download(
        _mirrored(file.url),
        target,
        checksum=file.checksum,
        pause=PAUSE,
        alternative=f"or set {pipeline.name}.data.source to {SAMPLE} or to a path",
    )
    return target


def _mirrored(url: str) -> str:
    mirror = os.environ.get(MIRROR)
    return f"{mirror.rstrip('/')}/{quote(fetching.place(url).as_posix())}" if mirror else url


def _fetch_names(pipeline: Pipeline, published: Published | None) -> None:
    given, target = pipeline.data.category_names, pipeline.paths.category_names
    if given is None:
        files.write_json(target, published.class_names() if published and published.class_names else {})
        return
    path = _existing(given, f"{pipeline.name}.data.category_names", "the path of a JSON file or null")
    category_names(path)
    _link(path, target)


def _fetch_split_table(pipeline: Pipeline, published: Published | None) -> None:
    given, target = pipeline.data.split.table, pipeline.paths.split_table
    if given is not None:
        path = _existing(given, f"{pipeline.name}.data.split.table", "the path of a CSV file or null")
        SplitTable.read(path)
        _link(path, target)
    elif published and published.split_table:
        published.split_table({name: _downloaded(file, pipeline) for name, file in published.more.items()}, target)
    else:
        with files.replacing(target) as temporary:
            temporary.touch()


def _existing(given: str, name: str, expected: str) -> Path:
    path = Path(given).expanduser()
    if not path.exists():
        raise DataError(f"{name}: expected {expected}; there is nothing at {given!r} (seen from {Path.cwd()})")
    return path


def _expected(pipeline: Pipeline) -> str:
    names = [SAMPLE, *(name for name, published in PUBLISHED.items() if published.kind == pipeline.kind)]
    close = difflib.get_close_matches(pipeline.data.source, names, n=1, cutoff=0.6)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{', '.join(names)}, a URL or a path{meant}"


def _link(path: Path, target: Path) -> None:
    with files.replacing(target) as temporary:
        temporary.symlink_to(path.resolve())
