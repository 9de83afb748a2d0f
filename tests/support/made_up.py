"""Trainings whose metrics are made up from their hyperparameters: quick, and the same on every processor."""

import math
import os
import random
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowerml.core.errors import DivergedError
from flowerml.engine.fit import Epoch, State
from flowerml.search.networks import Cost
from flowerml.search.trainee import Advance, Trainee

DIVERGES_ABOVE = 0.5  # learning rate


class MadeUpTraining:
    """A training that is best at a learning rate of 0.01 and a dropout of 0.3, and rises with each epoch."""

    def __init__(self, network: nn.Linear, section: Any) -> None:
        self._network, self._section, self._number, self._last = network, section, 0, section.epochs

    def __iter__(self) -> "MadeUpTraining":
        return self

    def __next__(self) -> Epoch:
        if self._number >= self._last:
            raise StopIteration
        rate, dropout = self._section.learning_rate, self._section.dropout
        if rate > DIVERGES_ABOVE:
            raise DivergedError(f"the loss is not finite in epoch 1, at a learning rate of {rate}")
        self._number += 1
        away = (math.log10(rate) + 2) ** 2 / 10 + (dropout - 0.3) ** 2 + (self._section.seed % 7) / 1000
        accuracy = round(max(0.0, 0.9 - away) * (1 - 0.5**self._number), 4)
        with torch.no_grad():
            self._network.weight.add_(rate)
        return Epoch(self._number, 1.0, 0.5, 1 - accuracy, accuracy, rate, 0.01)

    def close(self) -> None:
        self._last = 0

    def state(self) -> State:
        return {"number": self._number, "network": self._network.state_dict()}

    def resume(self, state: State) -> None:
        self._number = state["number"]
        self._network.load_state_dict(state["network"])


class MadeUp:
    """Networks of one weight, which is the sum of the learning rates of all epochs; their logits favour the first."""

    def build(self, section: Any) -> tuple[nn.Linear, MadeUpTraining]:
        network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(network.weight, section.seed)
        return network, MadeUpTraining(network, section)

    build_refit = build

    def predict_valid(self, network: nn.Module) -> Tensor:
        weight = next(network.parameters()).item()
        return torch.tensor([[weight, 0.0], [0.0, weight % 1]])

    def valid_targets(self) -> Tensor:
        return torch.tensor([0, 1])

    def combined(self, networks: Sequence[nn.Module], weights: Sequence[float]) -> nn.Module:
        return nn.ModuleList(networks)

    def cost(self, network: nn.Module) -> Cost:
        return Cost(1.0, 4)


def trainee() -> Trainee:
    """Return what a worker runs for a search of `MadeUp` networks."""
    return Trainee(MadeUp(), _section, None)


def points() -> Trainee:
    """Return what a worker runs for a search of small networks that are really trained."""
    from tests.search.test_retraining import Points

    return Trainee(Points(), _section, None)


class Dawdling(Trainee):
    """It waits after each answer, as long as is drawn anew in each process, so that trials end in another order."""

    def advance(self, seconds: float, want_state: bool) -> Advance:
        answer = super().advance(seconds, want_state)
        time.sleep(random.Random(os.urandom(8)).choice((0.0, 0.01, 0.1)))
        return answer


def dawdling() -> Trainee:
    """Return what a worker that dawdles runs for a search of small networks that are really trained."""
    from tests.search.test_retraining import Points

    return Dawdling(Points(), _section, None)


def _section(values: dict[str, Any]) -> Any:
    from flowerml.tasks.image.sections import Train

    return Train.model_validate(values)
