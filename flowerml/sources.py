"""Where a pipeline's data comes from: `sample`, or a path on this machine."""

from pathlib import Path

from flowerml import files
from flowerml.errors import DataError
from flowerml.tasks import Pipeline

SAMPLE = "sample"


def fetch(pipeline: Pipeline) -> None:
    """Put the source where `extract` reads it, and the category names beside it.

    A folder or archive of the user's is not copied: a symbolic link leads to it, and through the link DVC sees
    whether its contents have changed.
    """
    source = pipeline.data.source
    if source == SAMPLE:
        pipeline.task.write_sample(pipeline.paths.archive, pipeline.data)
    else:
        _link(_existing(source, f"{pipeline.name}.data.source", f"{SAMPLE} or a path"), pipeline.paths.archive)
    _fetch_names(pipeline)


def category_names(path: Path) -> dict[str, str]:
    """The names of classes in a JSON object of class -> name; raises DataError."""
    try:
        names = files.read_json(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path.resolve()}: not valid JSON ({error})") from None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise DataError(f'{path.resolve()}: expected a JSON object of class -> name, such as {{"21": "fire lily"}}')
    return names


def check_names(names: dict[str, str], classes: list[str], path: Path) -> None:
    """Raises DataError unless there are no names at all, or one for every class."""
    missing = [label for label in classes if label not in names]
    if names and missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise DataError(
            f"{path.resolve()}: no name for {len(missing)} of the {len(classes)} classes ({shown}); it names "
            f"{', '.join(list(names)[:5])}, …: add the missing ones, or set data.category_names to null"
        )


def _fetch_names(pipeline: Pipeline) -> None:
    given, target = pipeline.data.category_names, pipeline.paths.category_names
    if given is None:
        files.write_json(target, {})
        return
    path = _existing(given, f"{pipeline.name}.data.category_names", "the path of a JSON file or null")
    category_names(path)
    _link(path, target)


def _existing(given: str, name: str, expected: str) -> Path:
    path = Path(given).expanduser()
    if not path.exists():
        raise DataError(f"{name}: expected {expected}; there is nothing at {given!r} (seen from {Path.cwd()})")
    return path


def _link(path: Path, target: Path) -> None:
    with files.replacing(target) as temporary:
        temporary.symlink_to(path.resolve())
