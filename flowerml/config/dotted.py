"""Parameters by their dotted names: the same in YAML, in `dvc exp run -S`, in the search space and in MLflow."""

from collections.abc import Iterable, Mapping
from typing import Any

from flowerml.core.display import closest
from flowerml.core.errors import ParamsError


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values as {"train.learning_rate": 0.001}; lists stay whole.

    >>> flatten({"train": {"epochs": 3, "hidden_units": []}})
    {'train.epochs': 3, 'train.hidden_units': []}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def set_by_dotted_name(sections: dict[str, Any], values: Mapping[str, Any], *, known_only: bool = False) -> None:
    """Set values by their dotted names, in place. Raises ParamsError for an unknown name.

    With `known_only` unknown names are skipped.

    >>> sections = {"train": {"epochs": 3}}
    >>> set_by_dotted_name(sections, {"train.epochs": 5})
    >>> sections
    {'train': {'epochs': 5}}
    """
    for name, value in values.items():
        *parents, last = name.split(".")
        section: Any = sections
        for part in parents:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and last in section:
            section[last] = value
        elif not known_only:
            raise ParamsError(
                f"{name}: unknown parameter for this kind of data{_hint(name, section, flatten(sections))}"
            )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the dotted name that one may be a misspelling of, None where none is close.

    >>> nearest("train.learning_rat", ["data.seed", "train.learning_rate"])
    'train.learning_rate'
    >>> nearest("epochs", ["data.seed", "train.epochs"])
    'train.epochs'
    """
    names = list(known)
    parent, _, last = name.rpartition(".")
    same_end = [other for other in names if other.rpartition(".")[2] == last]
    # Of a name in a known section, the section says nothing: all of its names begin with it.
    siblings = [other for other in names if other.rpartition(".")[0] == parent]
    of_section = [f"{parent}.{match}" for match in closest(last, (other.rpartition(".")[2] for other in siblings))]
    whole = [] if siblings else closest(name, names)
    return next(iter([*closest(name, same_end), *same_end, *of_section, *whole]), None)


def _hint(name: str, section: Any, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest, or else those of its section."""
    if (near := nearest(name, known)) is not None:
        return f"; did you mean {near!r}?"
    return f"; known are {', '.join(section)}" if isinstance(section, dict) else ""
