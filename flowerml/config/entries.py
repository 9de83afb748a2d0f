"""The entries of `pipelines:` in params.yaml, in the two forms that it may have.

pipelines: {flowers: image}          pipelines:
flowers:                               flowers:
  data: {source: flowers102}             kind: image
                                         data: {source: flowers102}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowerml.config.errors import suggest
from flowerml.config.pipeline import SECTIONS
from flowerml.core.errors import ParamsError

KIND = "kind"
PIPELINES = "pipelines"


@dataclass(frozen=True)
class Entry:
    """A pipeline as params.yaml has it, unchecked but for its names.

    `sections` are those that are given, None where there are none. `where` is the dotted name of what holds them.
    """

    name: str
    kind: Any
    sections: Any
    where: str


def entry(values: Mapping[str, Any], name: str, path: Path) -> Entry:
    """Return the entry `name` of a params.yaml; raises ParamsError, which names `path`."""
    pipelines = values[PIPELINES]
    if name not in pipelines:
        raise ParamsError(f"{path}: no pipeline {name!r} under `{PIPELINES}:`{suggest(name, pipelines)}")
    given = pipelines[name]
    if not isinstance(given, Mapping):
        return Entry(name, given, values.get(name), name)
    where = f"{PIPELINES}.{name}"
    if name in values:
        raise ParamsError(f"{path}: {name}: has sections here and in {where}; move those of the former to the latter")
    known = (KIND, *SECTIONS)
    for unknown in given.keys() - set(known):
        raise ParamsError(f"{path}: {where}.{unknown}: unknown name{suggest(unknown, known)}")
    if KIND not in given:
        raise ParamsError(f"{path}: {where}: expected `{KIND}:`, such as `{KIND}: image`")
    return Entry(name, given[KIND], {part: value for part, value in given.items() if part != KIND}, where)


def kinds(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the kind of each pipeline of a params.yaml, unchecked; raises ParamsError."""
    return {name: entry(values, name, path).kind for name in values[PIPELINES]}
