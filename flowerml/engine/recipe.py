"""The parameters of a training beyond those of plain gradient descent."""

from collections.abc import Sequence
from dataclasses import dataclass

from flowerml.engine.optimizers import Group


@dataclass(frozen=True)
class Recipe:
    """What a training may do beyond plain gradient descent of all weights alike; by default nothing.

    `groups` of parameters have learning rates of their own; those of a body stay in the first `freeze_epochs`. In
    `warmup_epochs` the rates rise. `ema` is the decay of averaged weights, which are then those that count; `mixup` the
    alpha of its Beta distribution; `clip_norm` the largest norm of the gradients. A step takes `accumulate` batches.
    """

    groups: Sequence[Group] | None = None
    freeze_epochs: int = 0
    warmup_epochs: float = 0.0
    ema: float = 0.0
    mixup: float = 0.0
    clip_norm: float | None = None
    accumulate: int = 1
    precision: str = "float32"
