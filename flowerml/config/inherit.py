"""Sections of params.yaml that say only what differs: missing parameters take the default of their kind of data."""

import copy
from collections.abc import Mapping
from typing import Any

from flowerml.config.dotted import flatten
from flowerml.config.params import Section

SPACE = "space"  # of a search: given, it is the whole space


def inherit(given: Any, defaults: Mapping[str, Any], *, name: str) -> Any:
    """Return the sections of the pipeline `name`, with the defaults of all parameters that are not given.

    The registered model is named after the pipeline. A value that is given is not searched, unless in a space that is
    given, too. What is unknown or has another shape stays, for the schema to report.
    """
    sections = fill(given, defaults)
    if not isinstance(sections, dict) or not defaults:
        return sections
    named = flatten(given or {})
    export, train = sections.get("export"), sections.get("train")
    if isinstance(export, dict) and "export.registered_model" not in named:
        export["registered_model"] = name
    if isinstance(train, dict) and not any(part.startswith(f"train.search.{SPACE}") for part in named):
        _leave_out(train.get("search"), [part.removeprefix("train.") for part in named])
    return sections


def _leave_out(search: Any, names: list[str]) -> None:
    """Remove parameters from the inherited space of a search."""
    space = search.get(SPACE) if isinstance(search, dict) else None
    if isinstance(space, dict):
        for name in names:
            space.pop(name, None)


def fill(given: Any, defaults: Mapping[str, Any]) -> Any:
    """Return nested values with the defaults of those that are missing; the former win, and a space stays as it is.

    A section with nothing in it (`export:`) is None in YAML, and takes all of its defaults.

    >>> fill({"train": {"epochs": 3}, "export": None}, {"train": {"epochs": 25, "seed": 0}, "export": {"alias": "a"}})
    {'train': {'epochs': 3, 'seed': 0}, 'export': {'alias': 'a'}}
    """
    if given is None:
        return copy.deepcopy(dict(defaults))
    if not isinstance(given, dict):
        return given
    filled = {
        name: fill(value, defaults[name]) if isinstance(defaults.get(name), Mapping) and name != SPACE else value
        for name, value in copy.deepcopy(given).items()
    }
    return filled | {name: copy.deepcopy(value) for name, value in defaults.items() if name not in given}


def gives_all(types: Mapping[str, type[Section]], given: Any) -> bool:
    """Return whether sections give every parameter of version 0.1.0: all that have no default in the schema.

    The params.yaml of 0.1.0 had to. Parameters that were added since then take the value there that changes nothing,
    which is the schema's: the same file trains the same network.
    """
    return isinstance(given, dict) and all(_complete(kind, given.get(name)) for name, kind in types.items())


def _complete(kind: type[Section], given: Any) -> bool:
    return isinstance(given, dict) and all(
        _complete(field.annotation, given.get(name))
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section) and field.is_required()
        else name in given or not field.is_required()
        for name, field in kind.model_fields.items()
    )
