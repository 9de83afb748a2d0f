"""Weights that are kept beside those in training: those of the best epoch, and an exponential moving average."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Scored(Protocol):
    """An epoch of `flowerml.engine.fit`, which imports this module."""

    @property
    def number(self) -> int: ...

    @property
    def valid_accuracy(self) -> float: ...

    @property
    def valid_loss(self) -> float: ...


class BestWeights:
    """A network's weights at its best epoch so far: highest validation accuracy, ties broken by lower loss.

    Without validation examples, whose accuracy is NaN, the last epoch is the best.

    >>> from flowerml.engine.fit import Epoch
    >>> network = nn.Linear(1, 1, bias=False)
    >>> best = BestWeights(network)
    >>> for number, accuracy in enumerate([0.5, 0.9, 0.7], start=1):
    ...     _ = nn.init.constant_(network.weight, number)
    ...     best.update(Epoch(number, 1.0, accuracy, 1.0, accuracy, 0.1, 1.0))
    >>> best.restore()
    >>> best.epoch, network.weight.item()
    (2, 2.0)
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.key: tuple[float, ...] = (-1.0, 0.0)
        self.epoch = 0
        self.weights: dict[str, Tensor] | None = None

    def update(self, epoch: Scored) -> None:
        """Keep a copy of the current weights if this epoch is the best so far."""
        key = (epoch.valid_accuracy, -epoch.valid_loss)
        if key > self.key or math.isnan(epoch.valid_accuracy):
            self.key, self.epoch = key, epoch.number
            self.weights = copy.deepcopy(self.network.state_dict())

    def restore(self) -> None:
        """Put the best weights back into the network, and the network into evaluation mode."""
        if self.weights is not None:
            self.network.load_state_dict(self.weights)
        self.network.eval()

    def state(self) -> dict[str, Any]:
        """Return the best epoch and its weights."""
        return {"key": self.key, "epoch": self.epoch, "weights": self.weights}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self.key, self.epoch, self.weights = (*state["key"],), state["epoch"], state["weights"]


class MovingAverage:
    """The exponential moving average of a network's trained weights and of its batch statistics.

    After step t the decay is at most (1 + t) / (10 + t), as in TensorFlow's ExponentialMovingAverage: without this rise
    the average of a training of a few hundred steps would still be full of the first weights.

    >>> network = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(network.weight, 1.0)
    >>> average = MovingAverage(network, decay=0.99)
    >>> _ = nn.init.constant_(network.weight, 3.0)
    >>> average.update()
    >>> with average.applied():
    ...     round(network.weight.item(), 3)
    2.636
    >>> network.weight.item()
    3.0
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self._decay, self._steps = decay, 0
        # By name and not as a copy of the module: state, device and memory format are those of the network's tensors.
        changing = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        statistics = {name: buffer for name, buffer in network.named_buffers() if buffer.is_floating_point()}
        self._live: dict[str, Tensor] = {**changing, **statistics}
        self._average = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the current weights into the average, after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_([*self._average.values()], [*self._live.values()], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the network for the time of a `with` block."""
        own = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, tensors: dict[str, Tensor]) -> None:
        for name, live in self._live.items():
            live.copy_(tensors[name])

    def state(self) -> dict[str, Any]:
        """Return the average and the number of steps."""
        return {"steps": self._steps, "average": self._average}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a `state()`."""
        self._steps = state["steps"]
        for name, tensor in self._average.items():
            tensor.copy_(state["average"][name])
