"""From what a person calls a model (a folder, or an address of MLflow's) to the saved classifier."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowerml.config.paths import DESCRIPTION
from flowerml.core import files
from flowerml.core.errors import ModelError
from flowerml.registry import client

# Where a classifier lies in models/flowers, and in a folder that MLflow saved.
INSIDE = ("", "classifier", "artifacts/classifier")


@contextmanager
def resolve_model(model: str) -> Iterator[Path]:
    """The folder of the saved classifier behind `model`; it is only sure to be there within the block.

    `model` is the folder itself, one that holds it (models/flowers, or what MLflow saved), or an address:
    models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN/NAME. Raises ModelError.
    """
    if model.lower().startswith(("http://", "https://")):
        raise ModelError(f"{model}: a saved classifier is expected, not a served one; evaluate and web ask servers")
    if not client.is_address(model):
        yield _within(Path(model).expanduser(), model)
        return
    with client.download_model(model) as folder:
        yield _within(folder, model)


def default_model(kind: str | None) -> str:
    """The only classifier in models/, or the only one of a kind; raises ModelError where it is not clear which."""
    found = _found()
    fitting = [folder for folder, its in found.items() if kind in (None, its)]
    if not found:
        raise ModelError(
            f"no classifier in models/ (seen from {Path.cwd()}); name one with --model: a folder, or models:/NAME@ALIAS"
        )
    if len(found) == 1 or len(fitting) == 1:
        return (fitting or list(found))[0]
    there = ", ".join(f"{folder} ({its})" for folder, its in found.items())
    what = f" for inputs of kind {kind}" if kind else ""
    raise ModelError(f"say with --model which classifier is meant{what}; there are {there}")


def default_models() -> list[str]:
    """The classifiers in models/ that the pipelines have made, the last one of each kind; raises ModelError."""
    last = {kind: folder for folder, kind in sorted(_found().items(), key=lambda one: _time(one[0]))}
    if not last:
        raise ModelError(f"no classifier in models/ (seen from {Path.cwd()}); name one with --model, or an --endpoint")
    return list(last.values())


def _found() -> dict[str, str]:
    """The folders of the classifiers in models/, with their kinds."""
    return {str(path.parent): _kind(path) for path in sorted(Path("models").glob(f"*/classifier/{DESCRIPTION}"))}


def _time(folder: str) -> float:
    return Path(folder, DESCRIPTION).stat().st_mtime


def _within(folder: Path, model: str) -> Path:
    for inside in INSIDE:
        if (folder / inside / DESCRIPTION).is_file():
            return folder / inside
    if not folder.exists():
        raise ModelError(f"{model}: there is nothing (seen from {Path.cwd()}); expected a saved classifier's folder")
    raise ModelError(f"{model}: no saved classifier; expected a folder with {DESCRIPTION}")


def _kind(path: Path) -> str:
    try:
        return str(files.read_json(path)["task"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unreadable"
