"""Options that several commands share."""

import enum
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowerml.core.display import preview_list
from flowerml.core.errors import DataError
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier
    from flowerml.engine.executors.place import Place


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


class Engine(enum.StrEnum):
    """What runs workers: processes of this machine, or those of a cluster."""

    local = "local"
    ray = "ray"
    dask = "dask"


EngineOption = Annotated[
    Engine | None,
    typer.Option(
        "--engine", help="Where workers run: local (this machine), ray or dask. Default: FLOWERML_ENGINE, else local."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Cluster: HOST:6379, ray://HOST:10001, auto, or tcp://HOST:8786. Default: FLOWERML_ADDRESS, else one that "
        "is started here.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes that share the work; the result is the same for any number. Default: FLOWERML_WORKERS, else 1.",
    ),
]


def use_workers(engine: Engine | None, address: str | None, workers: int | None) -> "Place":
    """Return where the work of a command runs, by its options, else by the environment, which they change.

    So the functions that the command calls need not hand it on. An address alone names its engine. Raises
    FlowermlError.
    """
    from flowerml.engine.executors import place

    if address is not None and engine is None and place.ENGINE not in os.environ:
        engine = Engine.dask if address.startswith(("tcp://", "tls://")) else Engine.ray
    if engine is Engine.local and address is None:
        os.environ.pop(place.ADDRESS, None)
    values = {
        place.ENGINE: None if engine is None else engine.value,
        place.ADDRESS: address,
        place.WORKERS: None if workers is None else str(workers),
    }
    os.environ.update({name: value for name, value in values.items() if value is not None})
    return place.Place.from_environment()


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
