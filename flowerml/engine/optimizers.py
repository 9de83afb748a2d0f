"""Optimizers and schedules, of one learning rate or of several groups of parameters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

RISE = 0.3  # of one_cycle: torch's default share of the steps in which the learning rate rises


@dataclass(frozen=True)
class Group:
    """Parameters that are trained alike: at a `share` of the learning rate, with weight decay or without.

    Those of a `body` do not change in a training's first `freeze_epochs`.
    """

    parameters: list[nn.Parameter]
    share: float = 1.0
    decays: bool = True
    body: bool = False


def whole(network: nn.Module) -> list[Group]:
    """Return one group of all parameters that are trained."""
    return [Group([parameter for parameter in network.parameters() if parameter.requires_grad])]


def without_decay_of_vectors(parameters: Sequence[nn.Parameter], *, share: float, body: bool) -> list[Group]:
    """Return two groups: weights decay; biases and the scales of normalizations do not, as in timm.

    >>> layer = nn.Linear(3, 2)
    >>> groups = without_decay_of_vectors([*layer.parameters()], share=0.5, body=True)
    >>> [(len(group.parameters), group.decays) for group in groups]
    [(1, True), (1, False)]
    """
    parts = {decays: [p for p in parameters if p.requires_grad and (p.ndim > 1) is decays] for decays in (True, False)}
    return [Group(part, share, decays, body) for decays, part in parts.items() if part]


def optimizer(name: str, groups: Sequence[Group], *, rate: float, decay: float) -> torch.optim.Optimizer:
    """Return the optimizer `name` (adamw, adam or sgd) of the groups."""
    parameters = [
        {
            "params": group.parameters,
            "lr": rate * group.share,
            "weight_decay": decay if group.decays else 0.0,
        }
        for group in groups
    ]
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return kind(parameters, lr=rate, weight_decay=decay, fused=True)  # one pass over the weights: half the time


def resume(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state that was saved contiguous; a fused step needs moments that lie in memory as their weights do."""
    optimizer.load_state_dict(state)
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if isinstance(moment, torch.Tensor) and moment.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(moment)


def scheduler(
    name: str, optimizer: torch.optim.Optimizer, *, rates: Sequence[float], steps: int, warmup: int
) -> LRScheduler:
    """Return the schedule `name` over `steps`, of which the first `warmup` raise the rates linearly.

    `rates` are the highest of each group; `warmup` is below `steps` - 1. one_cycle rises anyway: `warmup` then says for
    how long, 0 for its default.
    """
    if name == "one_cycle":
        rise = (warmup + 1) / steps if warmup else RISE  # torch takes off one, and divides by the rest
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, [*rates], total_steps=steps, pct_start=rise)
    if warmup:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_share, name, steps=steps, warmup=warmup))
    if name == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _share(name: str, step: int, *, steps: int, warmup: int) -> float:
    """Return the share of the highest rate before `step`, counted from 0, with a warmup."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2 if name == "cosine" else 1.0
