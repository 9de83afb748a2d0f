"""Pipelines without an entry in params.yaml: the kind is inferred from the data, parameters are defaults."""

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from flowerml.config.defaults import defaults
from flowerml.config.dotted import set_by_dotted_name
from flowerml.config.paths import DESCRIPTION, Paths
from flowerml.config.pipeline import Pipeline
from flowerml.core.display import printable
from flowerml.core.errors import DataError
from flowerml.data import archives
from flowerml.data.catalogue import PUBLISHED
from flowerml.data.download import is_url
from flowerml.pipeline import download
from flowerml.tasks.pipelines import checked_pipeline
from flowerml.tasks.registry import TASKS

MEMBERS_SEEN = 2000  # read from a source to infer its kind
CLEAR_MAJORITY = 0.9  # share of these that must be of one kind


def pipeline_from_data(
    source: str,
    kind: str | None,
    values: Mapping[str, Any],
    *,
    name: str,
    root: Path,
    start: Mapping[str, Any] | None = None,
    complete: bool = True,
) -> tuple[Pipeline, str]:
    """Fetch a source, and return a pipeline with its files under `root`, and a description of its defaults' origin.

    A `kind` of None is inferred from the data. `values` by dotted names override those of `start`, which override the
    defaults; they are not `complete` where a preset will change more. Raises FlowermlError if the source cannot be
    fetched or a value is invalid.
    """
    known = source in PUBLISHED or source == download.SAMPLE or is_url(source)
    if not known and not Path(source).expanduser().exists():
        raise DataError(
            f"{source}: does not exist (relative to {Path.cwd()}); expected a folder, archive or table of labelled "
            f"examples, a URL, or one of {', '.join(PUBLISHED)}"
        )
    kind = kind or _infer_kind(source, name=name, root=root)
    sections, origin = _sections(source, kind, values, start)
    pipeline = checked_pipeline(name, kind, sections, path=Path("options"), root=root, complete=complete)
    download.run(pipeline)
    return pipeline, origin


def pipeline_of(description: Mapping[str, Any], *, roots: Iterable[Path]) -> Pipeline | None:
    """Return the pipeline that a saved classifier was trained by, where its examples are below one of `roots`.

    It has the parameters that the classifier records. None where its examples are elsewhere, or are others now.
    """
    name, digest = (description["trained"].get(key) for key in ("pipeline", "data_digest"))
    if not name or not digest or Path(name).name != name:
        return None
    for root in roots:
        if _digest(Paths(name, root).examples) == digest:
            sections = copy.deepcopy(defaults(description["task"]).sections)
            set_by_dotted_name(sections, description["parameters"], known_only=True)
            path = root / DESCRIPTION
            return checked_pipeline(name, description["task"], sections, path=path, root=root, complete=False)
    return None


def _digest(examples: Path) -> str | None:
    if not examples.exists():
        return None
    try:
        from flowerml.data.examples import Examples  # needs pyarrow, which the kind of a source does not

        return Examples(examples).digest()
    except (OSError, ValueError):  # no table of examples
        return None


def _infer_kind(source: str, *, name: str, root: Path) -> str:
    if source in PUBLISHED:
        return PUBLISHED[source].kind
    if source == download.SAMPLE:
        raise DataError(f"{source}: add --kind {' or '.join(TASKS)}; every kind has a sample")
    if not is_url(source):
        return kind_of(Path(source).expanduser())
    # Fetching is the same for all kinds; the kind is then inferred from the files.
    any_kind = next(iter(TASKS))
    sections, _ = _sections(source, any_kind, {}, None)
    pipeline = checked_pipeline(name, any_kind, sections, path=Path("options"), root=root)
    download.run(pipeline)
    return kind_of(pipeline.paths.archive)


def kind_of(path: Path) -> str:
    """Return the kind of the examples in a table, folder or archive, inferred from file names; raises DataError."""
    if (kind := _kind_of_table(path.resolve().name)) and not path.is_dir():
        return kind
    seen = list(islice(archives.members(path), MEMBERS_SEEN))
    names = [member.name for member in seen]
    # A table beside examples may hold anything about them.
    counts = Counter(filter(None, map(_kind, names))) or Counter(filter(None, map(_kind_of_table, names)))
    if not counts:
        expected = "; ".join(f"{kind}: {', '.join(sorted(task.SUFFIXES))}" for kind, task in TASKS.items())
        problem = next((f"; {printable(member.name)}: {member.problem}" for member in seen if member.problem), "")
        raise DataError(f"{path.resolve()}: no file name has the ending of an example; expected {expected}{problem}")
    kind, most = counts.most_common(1)[0]
    if most < CLEAR_MAJORITY * counts.total():
        mixture = ", ".join(f"{count:,} of kind {kind}" for kind, count in counts.most_common())
        raise DataError(f"{path.resolve()}: holds files of several kinds ({mixture}); choose one with --kind")
    return kind


def _sections(
    source: str, kind: str, values: Mapping[str, Any], start: Mapping[str, Any] | None
) -> tuple[dict[str, Any], str]:
    """Return the sections to train with, and a description of their defaults' origin."""
    base = defaults(kind)
    sections = copy.deepcopy(base.sections)
    of_source = {"data.source": source, "data.category_names": None, "data.split.table": None, "data.limit": None}
    set_by_dotted_name(sections, of_source)
    set_by_dotted_name(sections, start or {}, known_only=True)
    set_by_dotted_name(sections, values)
    space = sections["train"]["search"]["space"]
    for name in values:
        space.pop(name.removeprefix("train."), None)  # a value given by the user is not searched
    return sections, base.origin


def _kind_of_table(name: str) -> str | None:
    return next((kind for kind, task in TASKS.items() if name.lower().endswith(task.TABLES)), None)


def _kind(name: str) -> str | None:
    suffix = PurePath(name).suffix.lower()
    return next((kind for kind, task in TASKS.items() if suffix in task.SUFFIXES), None)
