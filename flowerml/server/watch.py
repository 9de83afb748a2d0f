"""What an address points to at the moment, and how its files are fetched."""

import os
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flowerml.core.errors import ModelError
from flowerml.registry import client
from flowerml.registry.kept import copy_kept
from flowerml.registry.locate import classifier_folder

ALIAS = re.compile(r"models:/(?P<name>[^/@:]+)@(?P<alias>[^/@]+)")


@dataclass(frozen=True)
class Target:
    """What an address points to: two that are equal are the same version. `version` is its number, where it has one."""

    mark: Hashable
    version: str | None


class Source(Protocol):
    """An address of a model. Both methods raise ModelError where it cannot be reached, or there is nothing yet."""

    @property
    def address(self) -> str:
        """The address as it was given."""
        ...

    @property
    def moves(self) -> bool:
        """Whether it may point to another version later."""
        ...

    def target(self) -> Target:
        """Return what it points to."""
        ...

    def fetch(self, target: Target, copy: Path) -> tuple[Path, bool]:
        """Return the folder of its files, and whether that is `copy`, an empty folder until then."""
        ...


def source_of(address: str) -> Source:
    """Return the source behind what a person calls a model.

    >>> source_of("models:/flowers@champion"), source_of("models:/flowers/3").moves
    (Alias(name='flowers', alias='champion'), False)
    """
    if address.lower().startswith(("http://", "https://")):
        raise ModelError(f"{address}: expected a folder, models:/NAME@ALIAS or models:/NAME/VERSION, found a URL")
    if match := ALIAS.fullmatch(address):
        return Alias(match["name"], match["alias"])
    return Fixed(address) if client.is_address(address) else Folder(Path(address).expanduser(), address)


@dataclass(frozen=True)
class Alias:
    """models:/NAME@ALIAS, which a promotion or a rollback moves."""

    name: str
    alias: str
    moves = True

    @property
    def address(self) -> str:
        """The address as it was given."""
        return f"models:/{self.name}@{self.alias}"

    def target(self) -> Target:
        version = client.aliased_version(self.name, self.alias)
        if version is None:
            client.versions(self.name)  # raises ModelError, with the known names, for a model that is not there
            raise ModelError(f"{self.address}: no version has this alias; set it with: flowerml promote {self.name}")
        # The number of a version that was deleted may be given to another one.
        return Target((version.version, version.creation_timestamp, version.source), str(version.version))

    def fetch(self, target: Target, copy: Path) -> tuple[Path, bool]:
        return _download(f"models:/{self.name}/{target.version}", copy)


@dataclass(frozen=True)
class Fixed:
    """Another address of MLflow's (models:/NAME/VERSION, runs:/…), which points to the same version for ever."""

    address: str
    moves = False

    def target(self) -> Target:
        return Target(self.address, None)

    def fetch(self, target: Target, copy: Path) -> tuple[Path, bool]:
        return _download(self.address, copy)


@dataclass(frozen=True)
class Folder:
    """A folder that contains a classifier, which training replaces."""

    path: Path
    address: str
    moves = True

    def target(self) -> Target:
        folder = classifier_folder(self.path, self.address)
        try:
            # All files: where they are copied one by one, a version that was refused is tried again when it is whole.
            files = sorted((entry.name, entry.stat()) for entry in os.scandir(folder))
        except OSError as error:
            raise ModelError(f"{self.address}: cannot be read ({error.strerror})") from None
        return Target(tuple((name, status.st_ino, status.st_mtime_ns, status.st_size) for name, status in files), None)

    def fetch(self, target: Target, copy: Path) -> tuple[Path, bool]:
        return self.path, False


def _download(address: str, folder: Path) -> tuple[Path, bool]:
    try:
        client.download_to(address, folder)
    except ModelError:
        if not copy_kept(address, folder):
            raise
    return folder, True
