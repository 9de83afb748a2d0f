"""The version of flowerml that a project is pinned to: `flowerml: 0.1.0` in its params.yaml.

`flowerml init` writes it, and DVC re-runs the stages when it changes. A file without it is run by any version.
"""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from flowerml.config.params import VERSION as PIN
from flowerml.core.errors import ParamsError


def pinned(values: Mapping[str, Any], path: Path) -> str | None:
    """Return the version that a params.yaml names, None where it names none; raises ParamsError."""
    version = values.get(PIN)
    if PIN not in values or PIN in values["pipelines"]:  # a pipeline of this name has its section there
        return None
    if not isinstance(version, str) or not version.strip():
        raise ParamsError(f"{path}: {PIN}: expected a version in quotes, such as '{installed()}', found {version!r}")
    return version


def installed() -> str | None:
    """Return the version of flowerml that runs, None where it was copied instead of installed."""
    try:
        return metadata.version(PIN)
    except metadata.PackageNotFoundError:
        return None


def check(values: Mapping[str, Any], path: Path) -> None:
    """Raise ParamsError, with the commands to go on, where another version runs than a params.yaml is pinned to."""
    version = pinned(values, path)
    if version is not None and version != installed():
        found = installed() or "one that is not installed"
        raise ParamsError(
            f"{path}: expected flowerml {version}, which this project is pinned to, found {found}; run `pip install "
            f"'flowerml[train]=={version}'`, or move the project to the version found with `flowerml init --upgrade`"
        )
