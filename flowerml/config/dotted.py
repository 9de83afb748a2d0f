"""Parameters by their dotted names: the same in YAML, in `dvc exp run -S`, in the search space and in MLflow."""

from collections.abc import Mapping
from typing import Any

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
            known = f"; known are {', '.join(section)}" if isinstance(section, dict) else ""
            raise ParamsError(f"{name}: unknown parameter for this kind of data{known}")
