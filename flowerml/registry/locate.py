"""From what a person calls a model (a folder, or an MLflow address) to the folder of the saved classifier."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flowerml.config.paths import DESCRIPTION
from flowerml.core import files
from flowerml.core.errors import ModelError
from flowerml.registry import client
from flowerml.registry.kept import kept_copy

# Where the classifier lies: in its own folder, in models/flowers, and in a folder that MLflow saved.
SUBFOLDERS = ("", "classifier", "artifacts/classifier")


@contextmanager
def resolve_model(model: str) -> Iterator[Path]:
    """Yield the folder of the saved classifier behind `model`; a downloaded one is removed after the block.

    `model` is the folder itself, one that contains it (models/flowers, or what MLflow saved), or an address:
    models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN/NAME. Raises ModelError.
    """
    if model.lower().startswith(("http://", "https://")):
        raise ModelError(f"{model}: expected a saved classifier, found a URL; only evaluate and web query servers")
    if not client.is_address(model):
        yield classifier_folder(Path(model).expanduser(), model)
        return
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(client.download_model(model))
        except ModelError:
            kept = kept_copy(model)
            if kept is None:
                raise
            folder = kept
        yield classifier_folder(folder, model)


def default_model(kind: str | None) -> str:
    """Return the only classifier in models/, or the only one of a kind; raises ModelError where it is ambiguous."""
    kinds = _classifiers()
    matching = [folder for folder, folder_kind in kinds.items() if kind in (None, folder_kind)]
    if not kinds:
        raise ModelError(
            f"no classifier in models/ (relative to {Path.cwd()}); name one with --model: a folder, or "
            "models:/NAME@ALIAS"
        )
    if len(kinds) == 1 or len(matching) == 1:
        return (matching or list(kinds))[0]
    choices = ", ".join(f"{folder} ({folder_kind})" for folder, folder_kind in kinds.items())
    purpose = f" for inputs of kind {kind}" if kind else ""
    raise ModelError(f"cannot choose a classifier{purpose}: models/ has {choices}; name one with --model")


def default_models() -> list[str]:
    """Return the classifiers that pipelines saved in models/, the latest of each kind; raises ModelError."""
    latest = {kind: folder for folder, kind in sorted(_classifiers().items(), key=lambda entry: _saved_at(entry[0]))}
    if not latest:
        raise ModelError(
            f"no classifier in models/ (relative to {Path.cwd()}); name one with --model, or an --endpoint"
        )
    return list(latest.values())


def _classifiers() -> dict[str, str]:
    """Return the folders of the classifiers in models/, with their kinds."""
    for model in Path("models").glob("*/"):
        files.recover(model / "classifier")
    return {str(path.parent): _kind(path) for path in sorted(Path("models").glob(f"*/classifier/{DESCRIPTION}"))}


def _saved_at(folder: str) -> float:
    return Path(folder, DESCRIPTION).stat().st_mtime


def classifier_folder(folder: Path, model: str) -> Path:
    """Return the folder of the saved classifier in one that contains it; `model` is what a person called it.

    Raises ModelError.
    """
    for subfolder in SUBFOLDERS:
        files.recover(folder / subfolder)
        if (folder / subfolder / DESCRIPTION).is_file():
            return folder / subfolder
    if not folder.exists():
        raise ModelError(f"{model}: does not exist (relative to {Path.cwd()}); expected a saved classifier's folder")
    raise ModelError(f"{model}: no saved classifier; expected a folder with {DESCRIPTION}")


def _kind(path: Path) -> str:
    try:
        return str(files.read_json(path)["task"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unreadable"
