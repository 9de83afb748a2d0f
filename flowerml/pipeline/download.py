"""Stage `download`: the source of the data -> archive, category_names.json and split_table.csv in data/<pipeline>.

A source is `sample`, a published data set, a URL, or a path on this machine.
"""

import os
from pathlib import Path
from urllib.parse import quote

from flowerml.config.paths import DOWNLOADS, PACKAGE
from flowerml.config.pipeline import Pipeline
from flowerml.core import files
from flowerml.core.display import did_you_mean, visible
from flowerml.core.errors import DataError
from flowerml.data.catalogue import PUBLISHED, File, Published
from flowerml.data.download import download, is_url, local_path
from flowerml.data.names import category_names
from flowerml.data.split_table import NO_TABLE, SplitTable
from flowerml.tasks.registry import task_of

SAMPLE = "sample"
PAUSE = 1.0  # seconds before the first retry of a download; doubled each time
# Former paths of the package's files, which users' params.yaml may still name.
MOVED = {"flowerml/text/sentiment.json": PACKAGE / "tasks" / "text" / "sentiment.json"}
MIRROR = "FLOWERML_MIRROR"  # the URL of a mirror with copies as HOST/PATH, for networks without access to the originals


def run(pipeline: Pipeline) -> None:
    """Put the source where `extract` reads it, with its category names and split table.

    Downloads are kept in data/downloads for all pipelines. Neither these nor a user's folder or file are copied: a
    symbolic link points to them, and DVC follows it to see whether their contents have changed.
    """
    source = pipeline.data.source
    published = PUBLISHED.get(source)
    if source == SAMPLE:
        task_of(pipeline).write_sample(pipeline.paths.archive, pipeline.data)
    elif published:
        _fetch_published(published, pipeline)
    elif is_url(source):
        _link(_downloaded(File(source), pipeline), pipeline.paths.archive)
    else:
        _link(_existing(source, f"{pipeline.name}.data.source", _expected(pipeline)), pipeline.paths.archive)
    _fetch_names(pipeline, published)
    _fetch_split_table(pipeline, published)


def _fetch_published(published: Published, pipeline: Pipeline) -> None:
    if published.kind != pipeline.kind:
        raise DataError(
            f"{pipeline.name}.data.source: {pipeline.data.source!r} is for a pipeline of kind {published.kind}, and "
            f"{pipeline.name} is of kind {pipeline.kind}; expected {_expected(pipeline)}"
        )
    print(visible(f"{pipeline.data.source}: {published.note}"))
    _link(_downloaded(published.archive, pipeline), pipeline.paths.archive)


def _downloaded(file: File, pipeline: Pipeline) -> Path:
    target = DOWNLOADS / local_path(file.url)
    download(
        _mirrored(file.url),
        target,
        checksum=file.checksum,
        pause=PAUSE,
        alternative=f"or set {pipeline.name}.data.source to {SAMPLE} or to a path",
    )
    return target


def _mirrored(url: str) -> str:
    mirror = os.environ.get(MIRROR)
    return f"{mirror.rstrip('/')}/{quote(local_path(url).as_posix())}" if mirror else url


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
        published.split_table(
            {name: _downloaded(file, pipeline) for name, file in published.extra_files.items()}, target
        )
    else:
        with files.replacing(target) as temporary:
            temporary.write_text(NO_TABLE, encoding="utf-8")


def _existing(given: str, name: str, expected: str) -> Path:
    path = Path(given).expanduser()
    if not path.exists() and given in MOVED:
        path = MOVED[given]
    if not path.exists():
        raise DataError(f"{name}: expected {expected}; {given!r} does not exist (relative to {Path.cwd()})")
    return path


def _expected(pipeline: Pipeline) -> str:
    names = [SAMPLE, *(name for name, published in PUBLISHED.items() if published.kind == pipeline.kind)]
    suggestion = did_you_mean(pipeline.data.source, names)
    return f"{', '.join(names)}, a URL or a path{suggestion and f' ({suggestion})'}"


def _link(path: Path, target: Path) -> None:
    with files.replacing(target) as temporary:
        temporary.symlink_to(path.resolve())
