"""The sections to start from where a pipeline has no entry in params.yaml."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowerml.config import params
from flowerml.config.dotted import set_by_dotted_name
from flowerml.config.entries import entry, kinds
from flowerml.config.inherit import inherit
from flowerml.config.paths import DESCRIPTION, Paths
from flowerml.core import files
from flowerml.core.errors import ParamsError

OF_SEARCH = (
    "search",
    "ensemble",
    "ensemble_by",
    "repeats",
    "refit",
)  # how the network of the section's values is found
SHIPPED_PARAMS = Path(__file__).with_name("defaults.yaml")


@dataclass(frozen=True)
class Defaults:
    """The sections to start from, and a description of their origin."""

    sections: dict[str, Any]
    origin: str


def defaults(kind: str) -> Defaults:
    """Return the sections of a pipeline of this kind, from params.yaml here or as shipped; raises ParamsError.

    If several pipelines are of this kind, use the one trained last, or the first if none is trained. `encode` and
    `train` then hold the values of the winner of its last search. The search is the shipped one, as that of a pipeline
    suits its own data and may take hours, and so is what follows it; where its space has a list of one, that is the
    value. A kind that is not shipped keeps its own.
    """
    path, values = read_params()
    names = _names(path, values, kind)
    if path == SHIPPED_PARAMS:
        return Defaults(values[names[0]], f"the defaults of {names[0]}")
    standard = shipped(kind)
    values = {name: inherit(entry(values, name, path).sections, standard, name=name) for name in names}
    search = {name: value for name, value in standard["train"].items() if name in OF_SEARCH} if standard else None
    trained = [name for name in names if _description(name).is_file()]
    if not trained:
        return Defaults(_with_search(values[names[0]], search), f"{path}, {names[0]}")
    name = max(trained, key=lambda name: _description(name).stat().st_mtime)
    sections = copy.deepcopy(values[name])
    set_by_dotted_name(sections, _winner(_description(name)), known_only=True)
    origin = f"the winner of the last search of {name} ({_description(name).parent})"
    return Defaults(_with_search(sections, search), origin)


def shipped(kind: str) -> dict[str, Any]:
    """Return the sections that are shipped for a kind, none for one that a user has added."""
    values = params.read(SHIPPED_PARAMS)
    return next((values[name] for name, of in values["pipelines"].items() if of == kind), {})


def _with_search(sections: dict[str, Any], search: dict[str, Any] | None) -> dict[str, Any]:
    """Return sections with another search, if there is one, and with the values that it leaves no choice of."""
    if search is None:
        return sections
    space = search["search"]["space"]
    decided = {name: choices[0] for name, choices in space.items() if isinstance(choices, list) and len(choices) == 1}
    train = copy.deepcopy({**sections["train"], **search})
    set_by_dotted_name(train, decided)
    return {**sections, "train": train}


def _names(path: Path, values: dict[str, Any], kind: str) -> list[str]:
    """Return the pipelines of this kind; raises ParamsError if there is none."""
    names = [name for name, named_kind in kinds(values, path).items() if named_kind == kind]
    if not names:
        raise ParamsError(
            f"{path}: expected a pipeline of kind {kind} under `pipelines:` as the source of defaults; add one"
        )
    return names


def read_params() -> tuple[Path, dict[str, Any]]:
    """Return (path, contents) of params.yaml here, or as shipped if there is none; raises ParamsError."""
    path = params.PARAMS_FILE if params.PARAMS_FILE.exists() else SHIPPED_PARAMS
    return path, params.read(path)


def _description(name: str) -> Path:
    return Paths(name).classifier / DESCRIPTION


def _winner(path: Path) -> dict[str, Any]:
    try:
        parameters = files.read_json(path)["parameters"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ParamsError(f"{path}: damaged; re-run `dvc repro`, or remove the folder") from None
    return {name: value for name, value in parameters.items() if name.startswith(("encode.", "train."))}
