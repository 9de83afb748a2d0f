"""Options that several commands share."""

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowerml.core.display import preview_list
from flowerml.core.errors import DataError
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier


class Device(enum.StrEnum):
    """The device that torch computes on; `auto` is the GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Kind = enum.StrEnum("Kind", list(TASKS))  # type: ignore[misc]  # mypy asks for literals
"""The kinds of inputs, one for each task."""


CategoryNames = Annotated[
    Path | None, typer.Option(metavar="FILE", help="JSON file with a name for each class, such as cat_to_name.json.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Gpu = Annotated[bool, typer.Option("--gpu", hidden=True)]


Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-S", metavar="NAME=VALUE", help="Set any parameter by its dotted name in params.yaml. Repeatable."
    ),
]


def parsed(changes: list[str] | None) -> dict[str, Any]:
    """Return NAME=VALUE pairs as {NAME: value}, with values read as YAML; raises BadParameter."""
    values = {}
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"expected NAME=VALUE, such as data.text_column=review; found {change!r}")
        values[name] = _value(value)
    return values


def finding_names(names: list[str] | None) -> list[str]:
    """Return the names of findings or severities once they are validated; raises BadParameter."""
    from flowerml.data import findings

    try:
        return [findings.validate_name(name) for name in names or []]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fail-on") from None


def rename(classifier: "Classifier", path: Path | None) -> None:
    """Give classes the names in a JSON file; classes missing from it keep theirs. Raises DataError."""
    if path is not None:
        classifier.names.update(names_of(classifier.classes, path))


def names_of(classes: Sequence[str], path: Path) -> dict[str, str]:
    """Return the names that a JSON file has for some of the classes; raises DataError where it has none of them."""
    from flowerml.data.names import category_names

    names = category_names(path)
    if not set(names) & set(classes):
        raise DataError(
            f"{path}: names none of the classes ({preview_list(classes)}), only "
            f"{preview_list(list(names)) or 'nothing'}; expected the file for this classifier's data"
        )
    return {label: names[label] for label in classes if label in names}


def _value(text: str) -> Any:
    import yaml

    from flowerml.config.params import Loader

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError:
        return text
