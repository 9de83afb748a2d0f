"""Run `flowerml` as after `pip install flowerml`: packages that only extras need cannot be imported.

python -m tests.support.base_install EXTRA,EXTRA COMMAND ...   # "" for none
"""

import importlib.machinery
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def installed(extras: list[str]) -> set[str]:
    """Return the names of the packages that pip would install with these extras, normalized."""
    waiting = [Requirement(line) for line in _needs(extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, own = normalized(requirement.name), frozenset(requirement.extras)
        if (name, own) not in seen:
            seen.add((name, own))
            children = [Requirement(line) for line in metadata.requires(name) or []]
            waiting += [child for child in children if _applies(child, own)]
    return {name for name, _ in seen}


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _needs(extras: list[str]) -> list[str]:
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        for line in PROJECT["optional-dependencies"][extra]:
            inner = re.fullmatch(r"flowerml\[(\w+)]", line)
            lines += _needs([inner[1]]) if inner else [line]
    return lines


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class Installed(importlib.machinery.PathFinder):
    """The finder of modules on sys.path, without those of packages that are not `installed`."""

    missing: set[str]

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.partition(".")[0] in cls.missing else super().find_spec(fullname, path, target)


def main() -> None:
    names = installed(sys.argv[1].split(",") if sys.argv[1] else []) | {"flowerml"}
    owners = metadata.packages_distributions()
    Installed.missing = {
        module for module, packages in owners.items() if not names & {normalized(package) for package in packages}
    }
    for module in [name for name in sys.modules if name.partition(".")[0] in Installed.missing]:
        del sys.modules[module]
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Installed
    from flowerml.cli import main as command

    sys.argv = ["flowerml", *sys.argv[2:]]
    command()


if __name__ == "__main__":
    main()
