"""What several commands ask in the same words."""

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowerml.core.errors import DataError
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier


class Device(enum.StrEnum):
    """What torch computes on; `auto` is the GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Kind = enum.StrEnum("Kind", list(TASKS))  # type: ignore[misc]  # mypy asks for literals
"""The kinds of inputs there are."""


CategoryNames = Annotated[
    Path | None, typer.Option(metavar="FILE", help="JSON of class -> name, such as cat_to_name.json.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
Gpu = Annotated[bool, typer.Option("--gpu", hidden=True)]


Changes = Annotated[
    list[str] | None,
    typer.Option("--set", "-S", metavar="NAME=VALUE", help="Any parameter by its name in params.yaml."),
]


def parsed(changes: list[str] | None) -> dict[str, Any]:
    """NAME=VALUE as {NAME: value}, the value read as YAML is; raises BadParameter."""
    values = {}
    for one in changes or []:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"expected NAME=VALUE, such as data.text_column=review; found {one!r}")
        values[name] = _value(value)
    return values


def finding_names(names: list[str] | None) -> list[str]:
    """The names of findings or severities, once they are known; raises BadParameter."""
    from flowerml.data import findings

    try:
        return [findings.validate_name(name) for name in names or []]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fail-on") from None


def rename(classifier: "Classifier", path: Path | None) -> None:
    """Give the classes the names in a JSON file; those it does not name keep theirs. Raises DataError."""
    if path is not None:
        classifier.names.update(names_of(classifier.classes, path))


def names_of(classes: Sequence[str], path: Path) -> dict[str, str]:
    """The names that a JSON file has for some of the classes; raises DataError where it has none for any."""
    from flowerml.data.names import category_names

    names = category_names(path)
    if not set(names) & set(classes):
        raise DataError(
            f"{path}: names none of the classes ({', '.join(classes[:5])}, …) but "
            f"{', '.join(list(names)[:5]) or 'nothing'}; expected the file that belongs to this classifier's data"
        )
    return {label: names[label] for label in classes if label in names}


def _value(text: str) -> Any:
    import yaml

    from flowerml.config.params import Loader

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError:
        return text
