"""The part of the backbones that is trained with the head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from flowerml.core.display import preview_list
from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone import Depth, Frozen, Towers, depth_of

Blocks = int | Literal["all"]


@dataclass(frozen=True)
class Trainable:
    """A backbone, or several as one: which of its parameters are trained, and which of the features it gives.

    `module` maps normalized pictures to features [B, D] (or activations, if those are cached); it is not a copy.
    `groups` are the names of all its parameters from input to output: of the stem, of each block, of what follows.
    """

    module: nn.Module
    trained: frozenset[str]
    groups: list[list[str]]
    columns: slice

    def behind(self, tail: nn.Module) -> "Trainable":
        """Return the part that reads activations of frozen blocks: what of the module is behind these."""
        kept = {name for name, _ in tail.named_parameters()}
        groups = [[name for name in group if name in kept] for group in self.groups]
        return Trainable(tail, self.trained & kept, groups, self.columns)


@dataclass(frozen=True)
class Backbones:
    """One or several backbones in one module: their names, and the number of features that each gives."""

    module: nn.Module
    names: tuple[str, ...]
    widths: tuple[int, ...]

    def only(self, name: str) -> "Backbones":
        """Return one of several; it is not copied."""
        number = self.names.index(name)
        return self.part([self._towers.numbers[number]]) if len(self.names) > 1 else self

    def part(self, numbers: Sequence[int]) -> "Backbones":
        """Return some of several, by their numbers in `encode.backbone`; they are not copied."""
        places = [self._towers.numbers.index(number) for number in numbers]
        names, widths = (tuple(self.names[at] for at in places), tuple(self.widths[at] for at in places))
        return Backbones(Frozen(self._towers.part(numbers)), names, widths)

    def columns(self, name: str | None) -> slice:
        """Return which of the features one of the backbones gives; None: all."""
        if name is None:
            return slice(0, sum(self.widths))
        start = sum(self.widths[: self.names.index(name)])
        return slice(start, start + self.widths[self.names.index(name)])

    def depths(self, size: tuple[int, int]) -> list[tuple[str, Depth]]:
        """Return the order of each backbone, and what precedes the names of its parameters in the module."""
        if not isinstance(self._inner, Towers):
            prefix = "" if self._inner is self.module else "module."
            return [(prefix, depth_of(self._inner, size))]
        networks = [tower.get_submodule("network") for tower in self._inner.towers]
        return [
            (f"module.towers.{number}.network.", depth_of(network, size)) for number, network in enumerate(networks)
        ]

    @property
    def _inner(self) -> nn.Module:
        return self.module.module if isinstance(self.module, Frozen) else self.module

    @property
    def _towers(self) -> Towers:
        assert isinstance(self._inner, Towers), "there are several"
        return self._inner


def trainable(backbones: Backbones, *, chosen: str | None, blocks: Blocks, size: tuple[int, int]) -> Trainable:
    """Return the trainable part of the `chosen` one of several backbones, or of all.

    Raises ModelError for an unknown one, and where one has fewer blocks.
    """
    if chosen is not None and chosen not in backbones.names:
        expected = preview_list(list(backbones.names), 8)
        raise ModelError(f"train.backbone: expected null or {expected}, found {chosen!r}")
    part = backbones if chosen is None else backbones.only(chosen)
    depths = part.depths(size)
    trained: set[str] = set()
    groups: list[list[str]] = [[] for _ in range(max(len(depth.groups) for _, depth in depths))]
    for name, (prefix, depth) in zip(part.names, depths, strict=True):
        trained.update(prefix + parameter for parameter in depth.trained(blocks, name=name))
        # Aligned at the output, as learning rates decay from there.
        for number, group in enumerate(reversed(depth.groups), start=1):
            groups[-number].extend(prefix + parameter for parameter in group)
    return Trainable(part.module, frozenset(trained), groups, backbones.columns(chosen))
