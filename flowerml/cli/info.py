"""`flowerml info`: what a saved classifier is."""

import struct
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
    """Tell what a saved classifier knows, what it is made of, how it was trained, and how large it is."""
    from flowerml.registry.locate import resolve_model

    with resolve_model(model) as folder:
        found = describe(folder)
    if json:
        output.json_line(found)
    else:
        output.table(("", ""), _rows(found), title=output.short(model))


def describe(folder: Path) -> dict[str, Any]:
    """What a saved classifier is, as plain data; sizes are in bytes. Raises ModelError."""
    from flowerml.classifier.classifier import Classifier
    from flowerml.registry import card

    saved = Classifier.load(folder).description
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    parameters = saved["parameters"]
    return {
        "kind": saved["task"],
        "classes": saved["classes"],
        "names": saved["names"],
        "network": card.describe_network(saved),
        "weights": _weights(folder / "weights.safetensors"),
        "parameters": {name: value for name, value in parameters.items() if name.startswith(("encode.", "train."))},
        "data": {
            name: value for name, value in parameters.items() if name.startswith("data.") and ".limits." not in name
        },
        "trained": saved["trained"],
        "bytes": sizes,
    }


def _weights(path: Path) -> int | None:
    """How many numbers a safetensors file holds, from its header alone; None where there is no such file."""
    import json
    import math

    if not path.is_file():
        return None
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    trained = {name: value for name, value in found["trained"].items() if not name.startswith("version.")}
    versions = {name.removeprefix("version."): value for name, value in found["trained"].items() if name not in trained}
    shown = {**found["data"], **found["parameters"]}
    return [
        ("kind", found["kind"]),
        ("classes", _classes(found)),
        ("network", found["network"]),
        ("weights", "unknown" if found["weights"] is None else f"{found['weights']:,}"),
        *((name, _value(value)) for name, value in shown.items() if value is not None),
        *((f"trained: {name.replace('_', ' ')}", _value(value)) for name, value in trained.items()),
        ("trained with", ", ".join(f"{name} {value}" for name, value in versions.items())),
        *((name, format_size(size)) for name, size in found["bytes"].items()),
    ]


def _classes(found: dict[str, Any]) -> str:
    names = [found["names"].get(label, label) for label in found["classes"]]
    return f"{len(names)}: {preview_list(names, SHOWN_CLASSES)}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
