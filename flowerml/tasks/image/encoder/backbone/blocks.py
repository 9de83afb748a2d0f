"""The blocks of a backbone, in order of execution: where the border between frozen and trained may lie.

timm's `group_matcher` says something similar for most of its networks, but not for torchvision's; it merges the last
block with what follows it, and for CrossViT, HRNet and Twins its groups are out of order. Here the order is that of a
forward pass, and the blocks are the widest series of modules in it: `blocks.0` to `blocks.6` of an EfficientNet, the
layers of a vision transformer, `layer1` to `layer4` of a ResNet.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from flowerml.core.display import preview_list
from flowerml.core.errors import ModelError

SMALLEST_SHARE = 0.3  # of a network's layers that its blocks hold
DEFAULT_SIDE = 224  # pixels


@dataclass(frozen=True)
class Depth:
    """The order of a network: the names of its blocks, and its parameters' names in groups from input to output.

    `groups` has the stem, each block with what is between it and the next, and what follows the last block.
    """

    blocks: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]

    def trained(self, count: int | Literal["all"], *, name: str = "the backbone") -> frozenset[str]:
        """Return the names of the parameters that the last `count` blocks and all that follows them hold.

        `all` includes the stem. Raises ModelError, which calls the backbone `name`, where there are fewer blocks.
        """
        return frozenset(parameter for group in self.groups[self.first(count, name=name) :] for parameter in group)

    def first(self, count: int | Literal["all"], *, name: str = "the backbone") -> int:
        """Return the number of frozen groups where the last `count` blocks are trained; raises ModelError."""
        if count == "all":
            return 0
        if not 0 <= count <= len(self.blocks):
            raise ModelError(f"encode.trainable_blocks: expected {self.choices(name)}, found {count}")
        return len(self.groups) if count == 0 else 1 + len(self.blocks) - count

    def choices(self, name: str) -> str:
        """Return the values that `encode.trainable_blocks` may take, in words."""
        if not self.blocks:
            return f"0 or all for {name}, which has no sequence of blocks"
        return f"0 to {len(self.blocks)} or all for {name}, whose blocks are {preview_list(list(self.blocks), 16)}"


def depth_of(module: nn.Module, size: tuple[int, int] | None = None) -> Depth:
    """Return the order of a network's blocks and parameters, found in one pass over a black picture of `size`.

    Without a size it is the network's own, as far as timm and torchvision note it. A network that has no sequence of
    blocks gets none, and all of its parameters are its stem.

    >>> depth = depth_of(nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(3))))
    >>> depth.blocks, sorted(depth.trained(1))
    (('0', '1', '2'), ['2.0.bias', '2.0.weight', '2.1.bias', '2.1.weight'])
    """
    order = _Order.observed(module, size or _own_size(module))
    names = order.series()
    starts = [order.intervals[name][0] for name in names]
    end = order.intervals[names[-1]][1] if names else 0
    groups: list[list[str]] = [[] for _ in range(len(names) + 2)]
    for parameter, _ in module.named_parameters():
        time = order.time_of(parameter)
        after = names and time > end
        groups[-1 if after else sum(start <= time for start in starts)].append(parameter)
    return Depth(tuple(names), tuple(map(tuple, groups)))


def blocks(module: nn.Module, size: tuple[int, int] | None = None) -> list[tuple[str, nn.Module]]:
    """Return the network's blocks by name, in order of execution; none where it has no sequence of blocks."""
    return [(name, module.get_submodule(name)) for name in depth_of(module, size).blocks]


def depth_groups(module: nn.Module, size: tuple[int, int] | None = None) -> list[list[str]]:
    """Return the names of the parameters from input to output: of the stem, of each block, of what follows."""
    return [list(group) for group in depth_of(module, size).groups]


def trained_from(module: nn.Module, count: int | Literal["all"], size: tuple[int, int] | None = None) -> set[str]:
    """Return the names of the parameters that are trained with the last `count` blocks; raises ModelError."""
    return set(depth_of(module, size).trained(count))


@dataclass(frozen=True)
class _Order:
    """When each module was called in a forward pass: `intervals` of name -> first and last tick, children included."""

    module: nn.Module
    intervals: dict[str, tuple[int, int]]

    @classmethod
    def observed(cls, module: nn.Module, size: tuple[int, int]) -> "_Order":
        clock = iter(range(10**9))
        calls: dict[str, tuple[int, int]] = {}
        starts: dict[str, int] = {}

        # Some modules are called several times, such as the relative position bias of each block: the first counts.
        def enter(name: str, *_: Any) -> None:
            starts.setdefault(name, next(clock))

        def leave(name: str, *_: Any) -> None:
            calls.setdefault(name, (starts[name], next(clock)))

        handles = []
        for name, child in module.named_modules():
            handles.append(child.register_forward_pre_hook(partial(enter, name)))
            handles.append(child.register_forward_hook(partial(leave, name)))
        training = {child: child.training for child in module.modules()}
        parameter = next(module.parameters())
        try:
            with torch.no_grad():
                module.eval()(torch.zeros(1, 3, *size, dtype=parameter.dtype, device=parameter.device))
        finally:
            for handle in handles:
                handle.remove()
            for child, mode in training.items():
                child.training = mode
        return cls(module, _with_containers(calls))

    def time_of(self, parameter: str) -> int:
        """Return when a parameter was first used, or else the innermost module around it that was called."""
        name = parameter
        while name:
            name = name.rpartition(".")[0]
            if name in self.intervals:
                return self.intervals[name][0]
        return 0

    def series(self) -> list[str]:
        """Return the names of the blocks in order: the series in the outermost module that has most layers."""
        total = _layers(self.module)
        candidates = []
        for name, parent in self.module.named_modules():
            for level, members in self._series_in(name, parent):
                share = sum(_layers(self.module.get_submodule(member)) for member in members) / max(total, 1)
                if share >= SMALLEST_SHARE:
                    depth = name.count(".") + bool(name)
                    candidates.append((level, depth, -share, members))
        return min(candidates)[-1] if candidates else []

    def _series_in(self, name: str, parent: nn.Module) -> Iterator[tuple[int, list[str]]]:
        """Yield possible series among the children of a module; those of a lower number are preferred."""
        children = [(f"{name}.{child}" if name else child, module) for child, module in parent.named_children()]
        children = [(child, module) for child, module in children if child in self.intervals and _layers(module)]
        composite = [child for child, module in children if _layers(module) > 1]
        if isinstance(parent, nn.Sequential | nn.ModuleList):
            yield from ((0, members) for members in self._ordered(composite))
            # VGG and AlexNet are a sequence of layers: each convolution begins a block.
            convolutions = [child for child, module in children if isinstance(module, nn.Conv2d)]
            yield from ((1, members) for members in self._ordered(convolutions))
            return
        families: dict[str, list[str]] = {}
        for child in composite:
            families.setdefault(re.sub(r"\d.*$", "#", child.rpartition(".")[2]), []).append(child)
        for family, members in families.items():
            if family.endswith("#"):
                yield from ((0, found) for found in self._ordered(members))
        yield from ((2, members) for members in self._ordered(composite))

    def _ordered(self, members: list[str]) -> Iterator[list[str]]:
        """Yield the members in order of execution, unless there are fewer than two or they overlap in time."""
        ordered = sorted(members, key=lambda member: self.intervals[member])
        ends = [self.intervals[member][1] for member in ordered]
        starts = [self.intervals[member][0] for member in ordered]
        if len(ordered) > 1 and all(end < start for end, start in zip(ends, starts[1:], strict=False)):
            yield ordered


def _with_containers(calls: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Add the modules that are not called themselves, such as lists of modules: from their first child to the last."""
    intervals = dict(calls)
    for name, (start, end) in calls.items():
        while "." in name:
            name = name.rpartition(".")[0]
            if name not in calls:
                first, last = intervals.get(name, (start, end))
                intervals[name] = min(first, start), max(last, end)
    return intervals


def _layers(module: nn.Module) -> int:
    """Return how many modules in it have parameters of their own."""
    return sum(any(True for _ in child.parameters(recurse=False)) for child in module.modules())


def _own_size(module: nn.Module) -> tuple[int, int]:
    for child in module.modules():
        configuration = getattr(child, "pretrained_cfg", None)
        if isinstance(configuration, dict) and "input_size" in configuration:
            return tuple(configuration["input_size"][1:])
        side = getattr(child, "image_size", None)
        if isinstance(side, int):
            return side, side
    return DEFAULT_SIDE, DEFAULT_SIDE
