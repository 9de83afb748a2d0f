"""Pipelines without an entry in params.yaml: the kind is told from the data, the rest are defaults."""

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from flowerml.config import params
from flowerml.config.paths import Paths
from flowerml.core import files
from flowerml.core.errors import DataError, ParamsError
from flowerml.data import archives
from flowerml.data.catalogue import PUBLISHED
from flowerml.data.download import is_url
from flowerml.pipeline import download
from flowerml.registry.locate import DESCRIPTION
from flowerml.tasks import registry
from flowerml.tasks.registry import TASKS, Pipeline

DEFAULTS = Path(__file__).with_name("defaults.yaml")  # params.yaml itself, as it was when this was installed
MEMBERS_SEEN = 2000  # of a source, to tell its kind
CLEAR = 0.9  # share of these that are of one kind


@dataclass(frozen=True)
class Defaults:
    """The sections to start from, and where they are from in words."""

    sections: dict[str, Any]
    origin: str


def defaults(kind: str) -> Defaults:
    """The sections of the pipeline of this kind in params.yaml, here or as it was shipped; raises ParamsError.

    Where its last search has left a classifier, `encode` and `train` have the winner's values. Of several pipelines
    the one that was trained last counts, or else the first.
    """
    path, values = _read()
    names = [name for name, its in values["pipelines"].items() if its == kind]
    if not names:
        raise ParamsError(f"{path}: no pipeline of kind {kind} under pipelines: to take defaults from; add one")
    trained = [name for name in names if _saved(name).is_file()]
    if path == DEFAULTS or not trained:
        return Defaults(values[names[0]], f"the defaults of {names[0]}" if path == DEFAULTS else f"{path}, {names[0]}")
    name = max(trained, key=lambda name: _saved(name).stat().st_mtime)
    sections = copy.deepcopy(values[name])
    put(sections, _winner(_saved(name)), known_only=True)
    return Defaults(sections, f"the winner of the last search of {name} ({_saved(name).parent})")


def put(sections: dict[str, Any], values: Mapping[str, Any], *, known_only: bool = False) -> None:
    """Set values by their dotted names, in place. Raises ParamsError for a name that is not there already.

    With `known_only` such a one is passed over.
    """
    for name, value in values.items():
        *above, last = name.split(".")
        inner: Any = sections
        for part in above:
            inner = inner.get(part) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and last in inner:
            inner[last] = value
        elif not known_only:
            beside = f"; there are {', '.join(inner)}" if isinstance(inner, dict) else ""
            raise ParamsError(f"{name}: no parameter for this kind of data{beside}")


def fetched(
    source: str,
    kind: str | None,
    values: Mapping[str, Any],
    *,
    name: str,
    root: Path,
    start: Mapping[str, Any] | None = None,
) -> tuple[Pipeline, str]:
    """A pipeline on this source, with what is to be read under `root`, and where its defaults are from in words.

    The kind is told from the data where None is given. `values` are set by their dotted names, upon those of `start`.
    Raises FlowermlError for what cannot be had, told or used.
    """
    known = source in PUBLISHED or source == download.SAMPLE or is_url(source)
    if not known and not Path(source).expanduser().exists():
        raise DataError(
            f"{source}: there is nothing (seen from {Path.cwd()}); expected a folder, archive or table of labelled "
            f"examples, a URL, or one of {', '.join(PUBLISHED)}"
        )
    kind = kind or _told_kind(source, name=name, root=root)
    sections, origin = _sections(source, kind, values, start)
    pipeline = registry.checked(name, kind, sections, path=Path("options"), root=root)
    download.fetch(pipeline)
    return pipeline, origin


def _told_kind(source: str, *, name: str, root: Path) -> str:
    if source in PUBLISHED:
        return PUBLISHED[source].kind
    if source == download.SAMPLE:
        raise DataError(f"{source}: say --kind, {' or '.join(TASKS)}: there are samples of both")
    if not is_url(source):
        return kind_of(Path(source).expanduser())
    # To fetch, any kind will do: what the data are shows when they are here.
    any_kind = next(iter(_read()[1]["pipelines"].values()))
    sections, _ = _sections(source, any_kind, {}, None)
    pipeline = registry.checked(name, any_kind, sections, path=Path("options"), root=root)
    download.fetch(pipeline)
    return kind_of(pipeline.paths.archive)


def kind_of(path: Path) -> str:
    """The kind of the examples in a table, a folder or an archive, told from names; raises DataError."""
    suffix = path.resolve().suffix.lower()
    for kind, task in TASKS.items():
        if suffix in task.TABLES:
            return kind
    kinds = (_kind(member.name) for member in islice(archives.members(path), MEMBERS_SEEN))
    counts = Counter(kind for kind in kinds if kind is not None)
    if not counts:
        expected = "; ".join(f"{kind}: {', '.join(sorted(task.SUFFIXES))}" for kind, task in TASKS.items())
        raise DataError(f"{path.resolve()}: holds no examples that could be told by their names; expected {expected}")
    kind, most = counts.most_common(1)[0]
    if most < CLEAR * counts.total():
        seen = ", ".join(f"{count:,} of kind {kind}" for kind, count in counts.most_common())
        raise DataError(f"{path.resolve()}: holds files of several kinds ({seen}); say which is meant with --kind")
    return kind


def _read() -> tuple[Path, dict[str, Any]]:
    path = params.PARAMS_FILE if params.PARAMS_FILE.exists() else DEFAULTS
    return path, params.read(path)


def _sections(
    source: str, kind: str, values: Mapping[str, Any], start: Mapping[str, Any] | None
) -> tuple[dict[str, Any], str]:
    """The sections to train with, and where their defaults are from."""
    found = defaults(kind)
    sections = copy.deepcopy(found.sections)
    own = {"data.source": source, "data.category_names": None, "data.split.table": None, "data.limit": None}
    put(sections, own)
    put(sections, start or {}, known_only=True)
    put(sections, values)
    space = sections["train"]["search"]["space"]
    for name in values:
        space.pop(name.removeprefix("train."), None)  # what is said is not searched
    return sections, found.origin


def _kind(name: str) -> str | None:
    suffix = PurePath(name).suffix.lower()
    return next((kind for kind, task in TASKS.items() if suffix in task.SUFFIXES), None)


def _saved(name: str) -> Path:
    return Paths(name).classifier / DESCRIPTION


def _winner(path: Path) -> dict[str, Any]:
    try:
        parameters = files.read_json(path)["parameters"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ParamsError(f"{path}: damaged; run `dvc repro` again, or remove the folder") from None
    return {name: value for name, value in parameters.items() if name.startswith(("encode.", "train."))}
