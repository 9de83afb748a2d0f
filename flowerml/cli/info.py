"""`flowerml info`: describe a saved classifier."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flowerml.cli import options, output
from flowerml.core.display import format_size, preview_list

NAME = "info"
EXAMPLES = """[bold]Examples[/]

  flowerml info models/flowers/classifier
  flowerml info models:/flowers@champion --json
"""
SHOWN_CLASSES = 12


def main(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, or models:/NAME@ALIAS.")],
    json: options.Json = False,
) -> None:
    """Show a saved classifier: its classes, network, parameters, training and size."""
    from flowerml.registry.locate import resolve_model

    with resolve_model(model) as folder:
        description = describe(folder)
    if json:
        output.json_line(description)
    else:
        output.table(("", ""), _rows(description), title=output.short(model))


def describe(folder: Path) -> dict[str, Any]:
    """Return the description of a saved classifier as plain data, with sizes in bytes. Raises ModelError."""
    from flowerml.classifier import saved
    from flowerml.classifier.classifier import Classifier
    from flowerml.registry import card

    description = Classifier.load(folder).description
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    parameters = description["parameters"]
    return {
        "kind": description["task"],
        "classes": description["classes"],
        "names": description["names"],
        "network": card.describe_network(description),
        "weights": saved.count_weights(folder),
        "parameters": {name: value for name, value in parameters.items() if name.startswith(("encode.", "train."))},
        "data": {
            name: value for name, value in parameters.items() if name.startswith("data.") and ".limits." not in name
        },
        "trained": description["trained"],
        "bytes": sizes,
    }


def _rows(description: dict[str, Any]) -> list[tuple[str, str]]:
    trained = {name: value for name, value in description["trained"].items() if not name.startswith("version.")}
    versions = {
        name.removeprefix("version."): value for name, value in description["trained"].items() if name not in trained
    }
    shown = {**description["data"], **description["parameters"]}
    return [
        ("kind", description["kind"]),
        ("classes", _classes(description)),
        ("network", description["network"]),
        ("weights", "unknown" if description["weights"] is None else f"{description['weights']:,}"),
        *((name, _value(value)) for name, value in shown.items() if value is not None),
        *((f"trained: {name.replace('_', ' ')}", _value(value)) for name, value in trained.items()),
        ("trained with", ", ".join(f"{name} {value}" for name, value in versions.items())),
        *((name, format_size(size)) for name, size in description["bytes"].items()),
    ]


def _classes(description: dict[str, Any]) -> str:
    names = [description["names"].get(label, label) for label in description["classes"]]
    return f"{len(names)}: {preview_list(names, SHOWN_CLASSES)}"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
