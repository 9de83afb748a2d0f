"""Pipelines without an entry in params.yaml: the kind is inferred from the data, the rest are defaults."""

import copy
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from flowerml.config.defaults import defaults, read_params
from flowerml.config.dotted import set_by_dotted_name
from flowerml.config.pipeline import Pipeline
from flowerml.core.errors import DataError
from flowerml.data import archives
from flowerml.data.catalogue import PUBLISHED
from flowerml.data.download import is_url
from flowerml.pipeline import download
from flowerml.tasks.pipelines import checked_pipeline
from flowerml.tasks.registry import TASKS

MEMBERS_SEEN = 2000  # of a source, to infer its kind
CLEAR_MAJORITY = 0.9  # share of these that are of one kind


def pipeline_from_data(
    source: str,
    kind: str | None,
    values: Mapping[str, Any],
    *,
    name: str,
    root: Path,
    start: Mapping[str, Any] | None = None,
) -> tuple[Pipeline, str]:
    """Fetch a source and return a pipeline on it, with its files under `root`, and where its defaults are from in words.

    The kind is inferred from the data where None is given. `values` are set by their dotted names, over those of `start`.
    Raises FlowermlError for a source that cannot be fetched, and for values that cannot be used.
    """
    known = source in PUBLISHED or source == download.SAMPLE or is_url(source)
    if not known and not Path(source).expanduser().exists():
        raise DataError(
            f"{source}: does not exist (seen from {Path.cwd()}); expected a folder, archive or table of labelled "
            f"examples, a URL, or one of {', '.join(PUBLISHED)}"
        )
    kind = kind or _infer_kind(source, name=name, root=root)
    sections, origin = _sections(source, kind, values, start)
    pipeline = checked_pipeline(name, kind, sections, path=Path("options"), root=root)
    download.run(pipeline)
    return pipeline, origin


def _infer_kind(source: str, *, name: str, root: Path) -> str:
    if source in PUBLISHED:
        return PUBLISHED[source].kind
    if source == download.SAMPLE:
        raise DataError(f"{source}: add --kind {' or '.join(TASKS)}: each has a sample")
    if not is_url(source):
        return kind_of(Path(source).expanduser())
    # Any kind will do to fetch; the files then show which it is.
    any_kind = next(iter(read_params()[1]["pipelines"].values()))
    sections, _ = _sections(source, any_kind, {}, None)
    pipeline = checked_pipeline(name, any_kind, sections, path=Path("options"), root=root)
    download.run(pipeline)
    return kind_of(pipeline.paths.archive)


def kind_of(path: Path) -> str:
    """Return the kind of the examples in a table, a folder or an archive, inferred from names; raises DataError."""
    suffix = path.resolve().suffix.lower()
    for kind, task in TASKS.items():
        if suffix in task.TABLES:
            return kind
    kinds = (_kind(member.name) for member in islice(archives.members(path), MEMBERS_SEEN))
    counts = Counter(kind for kind in kinds if kind is not None)
    if not counts:
        expected = "; ".join(f"{kind}: {', '.join(sorted(task.SUFFIXES))}" for kind, task in TASKS.items())
        raise DataError(f"{path.resolve()}: no file name ends like an example; expected {expected}")
    kind, most = counts.most_common(1)[0]
    if most < CLEAR_MAJORITY * counts.total():
        seen = ", ".join(f"{count:,} of kind {kind}" for kind, count in counts.most_common())
        raise DataError(f"{path.resolve()}: holds files of several kinds ({seen}); choose one with --kind")
    return kind


def _sections(
    source: str, kind: str, values: Mapping[str, Any], start: Mapping[str, Any] | None
) -> tuple[dict[str, Any], str]:
    """Return the sections to train with, and where their defaults are from."""
    start_from = defaults(kind)
    sections = copy.deepcopy(start_from.sections)
    own = {"data.source": source, "data.category_names": None, "data.split.table": None, "data.limit": None}
    set_by_dotted_name(sections, own)
    set_by_dotted_name(sections, start or {}, known_only=True)
    set_by_dotted_name(sections, values)
    space = sections["train"]["search"]["space"]
    for name in values:
        space.pop(name.removeprefix("train."), None)  # a value that is given is not searched
    return sections, start_from.origin


def _kind(name: str) -> str | None:
    suffix = PurePath(name).suffix.lower()
    return next((kind for kind, task in TASKS.items() if suffix in task.SUFFIXES), None)
