"""docs/reference/params.md: every parameter with its type, its defaults and its meaning.

Types come from the sections that check params.yaml, defaults and meanings from flowerml/config/defaults.yaml.
"""

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docsite.reference.tables import COMMENT, code, join, table
from flowerml.config.defaults import SHIPPED_PARAMS
from flowerml.config.params import Evaluate, Export, Loader
from flowerml.tasks.registry import TASKS

SECTIONS = {
    "data": "What is trained on. Read by the stages `download` and `extract`.",
    "encode": "What is computed once for all trials. Read by the stage `encode`.",
    "train": "How a network is trained, and what is searched. Read by the stage `train`.",
    "evaluate": "How the test split is scored. Read by the stage `evaluate`.",
    "export": "What is registered, and when it becomes the champion. Read by the stage `export`.",
}
NAMES = {int: "Integer", float: "Number", str: "Text", bool: "`true` or `false`"}
BOUNDS = ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<"))


def page() -> str:
    """Return the page."""
    kinds = _kinds()
    intro = (
        "A pipeline is a name and its kind under `pipelines:` in `params.yaml`, and a section of that name. A "
        "parameter that a section leaves out has its default. Parameters have the same dotted names everywhere: `--set "
        "train.learning_rate=0.001` in `flowerml train`, `-S flowers.train.learning_rate=0.001` in `dvc exp run`, in "
        "the search space and in MLflow. An unknown name or a wrong type is refused, with the nearest name."
    )
    return join(COMMENT, "# Parameters", intro, *(_section(name, kinds) for name in SECTIONS))


def parameters() -> dict[str, set[str]]:
    """Return the kinds that have each parameter, by its dotted name; a search space counts as one."""
    kinds: dict[str, set[str]] = {}
    for kind in TASKS:
        for section, model in sections(kind).items():
            for name, _ in fields(model, f"{section}."):
                kinds.setdefault(name, set()).add(kind)
    return kinds


def sections(kind: str) -> dict[str, type[BaseModel]]:
    """Return the sections of a kind by name."""
    own = TASKS[kind].section_types()
    return {"data": own.data, "encode": own.encode, "train": own.train, "evaluate": Evaluate, "export": Export}


def fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Yield each parameter of a section and of its parts, by its dotted name."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _kinds() -> dict[str, tuple[dict[str, FieldInfo], dict[str, Any], dict[str, str]]]:
    """Return the fields, defaults and meanings of each kind's parameters."""
    text = SHIPPED_PARAMS.read_text(encoding="utf-8")
    values, said = yaml.load(text, Loader), comments(text)
    made = {}
    for name, kind in values["pipelines"].items():
        of_kind = {key: field for part, model in sections(kind).items() for key, field in fields(model, f"{part}.")}
        meanings = {
            key.removeprefix(f"{name}."): comment for key, comment in said.items() if key.startswith(f"{name}.")
        }
        made[kind] = of_kind, values[name], meanings
    return made


def comments(text: str) -> dict[str, str]:
    """Return the comment behind each key of a YAML file, with the lines that go on below it, by the key's dotted name.

    >>> comments("a:\\n  b: 1  # one\\n         # more\\n  c: 2")
    {'a.b': 'one more'}
    """
    said: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        before, hash_, comment = line.partition("#")
        key, colon, _ = before.partition(":")
        indent = len(before) - len(before.lstrip())
        if colon and not key.strip().startswith("-"):
            path = [*((depth, name) for depth, name in path if depth < indent), (indent, key.strip())]
        if hash_ and path and (before.strip() or dotted(path) in said):
            said[dotted(path)] = f"{said.get(dotted(path), '')} {comment.strip()}".strip()
    return said


def dotted(path: list[tuple[int, str]]) -> str:
    return ".".join(name for _, name in path)


def _section(section: str, kinds: Mapping[str, tuple[dict[str, FieldInfo], dict[str, Any], dict[str, str]]]) -> str:
    names = grouped(name for of_kind, _, _ in kinds.values() for name in of_kind if name.startswith(f"{section}."))
    rows = []
    for name in names:
        having = [kind for kind, (of_kind, _, _) in kinds.items() if name in of_kind]
        types_ = _alike([describe(kinds[kind][0][name]) for kind in having], having)
        default = _defaults({kind: _default(name, *kinds[kind][:2]) for kind in having}, len(kinds))
        meaning = _alike([kinds[kind][2].get(name, "") for kind in having], having)
        rows.append([code(name), types_, default, meaning])
    header = ["parameter", "type", "default", "meaning"]
    return join(f"## {section}", SECTIONS[section], table(header, rows))


def grouped(names: Iterable[str]) -> list[str]:
    """Return names in their order, but those of one part (`data.split`) together.

    >>> grouped(["data.split.valid", "data.limit", "data.split.test"])
    ['data.split.valid', 'data.split.test', 'data.limit']
    """
    unique = list(dict.fromkeys(names))
    parts = list(dict.fromkeys(map(_part, unique)))
    return sorted(unique, key=lambda name: parts.index(_part(name)))


def _part(name: str) -> str:
    return name.rpartition(".")[0] if name.count(".") > 1 else name


def _alike(texts: list[str], kinds: list[str]) -> str:
    """Return what is said for each kind, once if it is the same."""
    if len(set(texts)) == 1:
        return texts[0][:1].upper() + texts[0][1:]
    return " ".join(f"*{kind.capitalize()}s*: {text}." for kind, text in zip(kinds, texts, strict=True) if text)


def _defaults(values: Mapping[str, str], kinds: int) -> str:
    """Return the default of each kind that has a parameter, once if all have it and it is the same."""
    if len(values) == kinds and len(set(values.values())) == 1:
        return next(iter(values.values()))
    only = "" if len(values) == kinds else " only"
    return ", ".join(f"{value} ({kind}s{only})" for kind, value in values.items())


def _default(name: str, of_kind: Mapping[str, FieldInfo], values: Mapping[str, Any]) -> str:
    section, _, rest = name.partition(".")
    value: Any = values[section]
    for part in rest.split("."):
        value = value[part] if isinstance(value, Mapping) and part in value else of_kind[name].default
    if isinstance(value, Mapping):
        return f"of {', '.join(code(key) for key in value)}" if value else code("{}")
    shown = yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("...").strip()
    return code(shown.strip("'") or '""')


def describe(field: FieldInfo) -> str:
    """Return the type of a parameter in words."""
    return _type(field.annotation, list(field.metadata))


def _type(annotation: Any, bounds: list[Any]) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(args[0], [*args[1:], *bounds])
    if origin is Literal:
        return " or ".join(code(value) for value in args)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(part, bounds) for part in args).replace(" or `null`", ", or `null`")
    if annotation is type(None):
        return code("null")
    if origin is list:
        return f"list of {_type(args[0], bounds).lower() if args else 'values'}"
    if origin is dict:
        return "choices or ranges by parameter"
    return NAMES.get(annotation, str(annotation)) + _bounds(bounds)


def _bounds(bounds: list[Any]) -> str:
    """Return the limits of a number, as " ≥ 1"."""
    parts = []
    for bound in [part for whole in bounds for part in getattr(whole, "metadata", [whole])]:
        parts += [f"{sign} {getattr(bound, name)}" for kind, name, sign in BOUNDS if isinstance(bound, kind)]
        if isinstance(bound, MinLen):
            parts.append("not empty")
    return f" {', '.join(parts)}" if parts else ""
