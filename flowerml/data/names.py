"""Readable names of classes, from a JSON object such as {"21": "fire lily"}."""

from pathlib import Path

from flowerml.core import files
from flowerml.core.display import preview_list
from flowerml.core.errors import DataError
from flowerml.data.layout import to_nfc


def category_names(path: Path) -> dict[str, str]:
    """Read the names of classes, {class: name}; raises DataError."""
    try:
        names = files.read_json(path)
    except OSError as error:
        raise DataError(f"{path.resolve()}: cannot be read ({error.strerror}); expected a JSON file") from None
    except ValueError as error:
        raise DataError(f"{path.resolve()}: not valid JSON ({error})") from None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise DataError(f'{path.resolve()}: expected a JSON object of class -> name, such as {{"21": "fire lily"}}')
    return {to_nfc(label): name for label, name in names.items()}


def check_names(names: dict[str, str], classes: list[str], path: Path) -> None:
    """Raise DataError unless every class has a name, or none has."""
    missing = [label for label in classes if label not in names]
    if names and missing:
        raise DataError(
            f"{path.resolve()}: no name for {len(missing)} of the {len(classes)} classes ({preview_list(missing)}); it "
            f"names {', '.join(list(names)[:5])}, …: add the missing ones, or set data.category_names to null"
        )
