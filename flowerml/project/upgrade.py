"""Moving a project to the installed version of flowerml."""

import re
from dataclasses import dataclass
from pathlib import Path

from flowerml.config import params, pin
from flowerml.core import files
from flowerml.core.errors import FlowermlError, ParamsError
from flowerml.project import templated
from flowerml.project.scalars import scalar

LINE = re.compile(rf"^({pin.PIN}[ \t]*:[ \t]*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s#]+)", re.MULTILINE)
REQUIREMENT = re.compile(r"^(flowerml(?:\[[^\]\n]*\])?[ \t]*==[ \t]*)[^\s;#]+", re.MULTILINE)


@dataclass(frozen=True)
class Upgraded:
    """The versions before and after, the files that were changed, and whether dvc.yaml is that of the new version."""

    before: str
    after: str
    changed: tuple[str, ...]
    has_new_stages: bool


def upgrade(folder: Path) -> Upgraded:
    """Pin a project to the installed version, in params.yaml and requirements.txt; raises FlowermlError.

    Comments and order stay. requirements.txt comes first: a killed command leaves the old pin, and runs again.
    """
    path = folder / params.PARAMS_FILE
    before, after = pin.pinned(params.read(path), path), pin.installed()
    if after is None:
        raise FlowermlError("this flowerml runs from a folder and has no version; run: pip install flowerml")
    if before is None:
        raise ParamsError(
            f"{path}: is pinned to no version, so that any version runs it; to pin it, add the line `{pin.PIN}: "
            f"{scalar(after)}` in front of `pipelines:`"
        )
    changes = [
        _replace(folder / "requirements.txt", REQUIREMENT, after),
        _replace(path, LINE, scalar(after)),
    ]
    if pin.pinned(params.read(path), path) != after:
        raise ParamsError(f"{path}: its line `{pin.PIN}:` cannot be changed here; write `{pin.PIN}: {scalar(after)}`")
    dvc_yaml = folder / "dvc.yaml"
    return Upgraded(
        before,
        after,
        tuple(name for name in changes if name),
        has_new_stages=dvc_yaml.is_file() and dvc_yaml.read_bytes() == templated.dvc_yaml().encode(),
    )


def _replace(path: Path, pattern: re.Pattern[str], version: str) -> str | None:
    """Put a version into a file; return its name if it has changed, None if not or if there is no such file."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    changed = pattern.sub(lambda match: match[1] + version, text, count=1)
    if changed == text:
        return None
    with files.replacing(path) as temporary:
        temporary.write_bytes(changed.encode())
    return path.name
