"""Which extra has the package that a command misses: `pip install flowerml` predicts, other commands need more."""

import re
from importlib import metadata
from importlib.util import find_spec

PACKAGES = {"sklearn": "scikit-learn"}  # modules whose package has another name
# The extra of a command, for packages that come with those that an extra names. Others need `serve`.
OF_COMMANDS = {
    "backbones": "train",
    "encode": "train",
    "init": "train",
    "reproduce": "train",
    "stage": "train",
    "review": "train",
    "train": "train",
    "web": "web",
}
_NEED = re.compile(r"^\s*([A-Za-z0-9._-]+)(?:\[([a-z0-9]+)\])?.*\bextra\s*==\s*['\"]([a-z0-9]+)")


def message(command: str | None, module: str) -> str:
    """Return in one line that a command needs the package of a module, and how to install it.

    >>> message("train", "torch")
    "`flowerml train` needs torch; run: pip install 'flowerml[train]'"
    """
    package = _normalized(PACKAGES.get(module, module))
    who = f"`flowerml {command}`" if command else "this"
    return f"{who} needs {package}; run: pip install 'flowerml[{extra_with(package, command)}]'"


def extra_with(package: str, command: str | None) -> str:
    """Return the extra that names a package, the command's own where that is among several; else the command's own.

    >>> extra_with("gradio", "predict"), extra_with("a-part-of-mlflow", "models")
    ('web', 'serve')
    """
    own = OF_COMMANDS.get(command or "", "serve")
    having = [extra for extra, packages in _packages().items() if package in packages]
    return own if own in having or not having else having[0]


def page_note(before: str) -> str:
    """Return what `flowerml web` needs, with `before` in front; nothing where it is installed."""
    return "" if find_spec("gradio") else f"{before}needs flowerml[web]"


def _packages() -> dict[str, set[str]]:
    """Return {extra: packages} of the installed flowerml, smallest first; nothing where it runs from a folder."""
    try:
        needs = list(map(_NEED.match, metadata.requires("flowerml") or []))
    except metadata.PackageNotFoundError:
        return {}
    packages: dict[str, set[str]] = {}
    for need in filter(None, needs):
        packages.setdefault(need[3], set()).add(_normalized(need[1]))
    for need in filter(None, needs):
        if need[2] in packages:  # flowerml[serve]
            packages[need[3]] |= packages[need[2]]
    return dict(sorted(packages.items(), key=lambda item: len(item[1])))


def _normalized(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
