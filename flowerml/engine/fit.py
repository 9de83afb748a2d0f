"""The training loop: it yields after every epoch and knows nothing of files, MLflow, pruning or progress bars."""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from flowerml.core.errors import DivergedError

Inputs = tuple[Tensor, ...]
State = dict[str, Any]
"""Nested dicts and lists of tensors, numbers, texts and None."""


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split gave; losses are cross-entropies in nats, means over examples.

    train_loss is what was minimised: with label smoothing, class weights and dropout, where they are on.
    """

    number: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    learning_rate: float
    seconds: float


class Batches(Protocol):
    """Encoded examples in batches of (inputs of the network, targets [B])."""

    train_counts: Tensor
    """How many training examples each class has, [C]."""

    def train(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """One epoch's training batches, in an order drawn from torch's generator."""

    def valid(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """The validation examples, in their order."""


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Training(Protocol):
    """A network on its way: an iteration over its epochs, which can be written down after each of them.

    However the iteration ends, `close()` included, the network then has the weights of the best epoch so far.
    """

    def __iter__(self) -> Iterator[Epoch]: ...

    def __next__(self) -> Epoch:
        """Train for an epoch; raises StopIteration after the last, and DivergedError."""

    def close(self) -> None:
        """End here."""

    def state(self) -> State:
        """All that the epochs to come depend on, the network's weights and torch's generators included."""

    def resume(self, state: State) -> None:
        """Go on where `state` was taken, to the same weights, bit for bit, as if there had been no interruption.

        For a training of the same network, data and parameters that has not begun.
        """


class Fit:
    """The training of a network by gradient, in place, an epoch for each step of the iteration: see `Training`.

    The best epoch is that of the highest validation accuracy, of equals that of the lowest validation loss. The
    iteration stops by itself after `patience` epochs without a better one. It raises DivergedError when a loss is not
    a finite number.
    """

    def __init__(
        self,
        network: nn.Module,
        data: Batches,
        *,
        learning_rate: float,
        batch_size: int,
        epochs: int,
        optimizer: str,
        weight_decay: float,
        schedule: str,
        label_smoothing: float,
        patience: int | None,
        class_weights: str | None,
    ) -> None:
        network.to(device())
        weights = balanced(data.train_counts).to(device()) if class_weights == "balanced" else None
        steps = math.ceil(int(data.train_counts.sum()) / batch_size) * epochs
        self._network, self._data, self._batch_size = network, data, batch_size
        self._learning_rate, self._epochs, self._patience = learning_rate, epochs, patience
        self._loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=label_smoothing)
        self._optimiser = _optimiser(network, optimizer, learning_rate, weight_decay)
        self._scheduler = _scheduler(self._optimiser, schedule, learning_rate, steps)
        self._best = Best(network)
        self._number = 0

    def __iter__(self) -> Iterator[Epoch]:
        return self

    def __next__(self) -> Epoch:
        patient = self._patience is None or self._number - self._best.epoch < self._patience
        if self._number >= self._epochs or not patient:
            self.close()
            raise StopIteration
        try:
            epoch = self._epoch(self._number + 1)
        except BaseException:
            self.close()
            raise
        self._number = epoch.number
        self._best.see(epoch)
        return epoch

    def close(self) -> None:
        """Put the best weights back; no epoch follows."""
        self._epochs = 0
        self._best.restore()

    def state(self) -> State:
        """See `Training`."""
        return {
            "number": self._number,
            "network": self._network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._scheduler.state_dict(),
            "best": self._best.state(),
            "generators": generators(),
        }

    def resume(self, state: State) -> None:
        """See `Training`."""
        self._number = state["number"]
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._scheduler.load_state_dict(state["schedule"])
        self._best.resume(state["best"])
        set_generators(state["generators"])

    def _epoch(self, number: int) -> Epoch:
        started = time.perf_counter()
        rate = self._optimiser.param_groups[0]["lr"]
        batches = self._data.train(batch_size=self._batch_size)
        train = _train(self._network, batches, self._loss, self._optimiser, self._scheduler)
        valid = evaluate(self._network, self._data.valid(batch_size=self._batch_size))
        _refuse_divergence(number, train[0], valid[0], self._learning_rate)
        return Epoch(number, *train, *valid, rate, time.perf_counter() - started)


def evaluate(network: nn.Module, batches: Iterator[tuple[Inputs, Tensor]]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `network` over the batches."""
    network.eval()
    total = _Mean()
    with torch.inference_mode():
        for inputs, targets in _moved(batches):
            logits = network(*inputs)
            total.add(nn.functional.cross_entropy(logits, targets), logits, targets)
    return total.result()


def _train(
    network: nn.Module,
    batches: Iterator[tuple[Inputs, Tensor]],
    loss: nn.Module,
    optimiser: torch.optim.Optimizer,
    scheduler: LRScheduler,
) -> tuple[float, float]:
    network.train()
    total = _Mean()
    for inputs, targets in _moved(batches):
        logits = network(*inputs)
        value = loss(logits, targets)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        scheduler.step()
        total.add(value.detach(), logits.detach(), targets)
    return total.result()


class _Mean:
    """Running means of loss and accuracy, summed on the device: a number read back per batch would wait for it."""

    def __init__(self) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device())
        self.hits = torch.zeros((), dtype=torch.int64, device=device())
        self.count = 0

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        self.loss += loss.double() * len(targets)
        self.hits += (logits.argmax(1) == targets).sum()
        self.count += len(targets)

    def result(self) -> tuple[float, float]:
        return self.loss.item() / self.count, self.hits.item() / self.count


class Best:
    """Keeps a network's weights of the best epoch so far: highest validation accuracy, of equals the lowest loss."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.key: tuple[float, ...] = (-1.0, 0.0)
        self.epoch = 0
        self.weights: dict[str, Tensor] | None = None

    def see(self, epoch: Epoch) -> None:
        key = (epoch.valid_accuracy, -epoch.valid_loss)
        if key > self.key:
            self.key, self.epoch = key, epoch.number
            self.weights = copy.deepcopy(self.network.state_dict())

    def restore(self) -> None:
        if self.weights is not None:
            self.network.load_state_dict(self.weights)
        self.network.eval()

    def state(self) -> State:
        """The best epoch and its weights."""
        return {"key": self.key, "epoch": self.epoch, "weights": self.weights}

    def resume(self, state: State) -> None:
        """Go on from a `state()`."""
        self.key, self.epoch, self.weights = (*state["key"],), state["epoch"], state["weights"]


def generators() -> State:
    """The states of torch's generators; nothing else is drawn from while a network is trained."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_generators(state: State) -> None:
    """Have torch's generators go on from `generators()`."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _moved(batches: Iterator[tuple[Inputs, Tensor]]) -> Iterator[tuple[Inputs, Tensor]]:
    target = device()
    for inputs, targets in batches:
        yield (
            tuple(tensor.to(target, non_blocking=True) for tensor in inputs),
            targets.to(target, non_blocking=True),
        )


def balanced(counts: Tensor) -> Tensor:
    """A weight for each class inverse to its frequency; their mean over examples is 1."""
    return counts.sum() / (len(counts) * counts.clamp(min=1))


def _optimiser(network: nn.Module, name: str, rate: float, decay: float) -> torch.optim.Optimizer:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return kind(trained, lr=rate, weight_decay=decay, fused=True)  # one pass over the weights: half the time


def _scheduler(optimiser: torch.optim.Optimizer, name: str, rate: float, steps: int) -> LRScheduler:
    if name == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps)
    if name == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)


def _refuse_divergence(number: int, train_loss: float, valid_loss: float, rate: float) -> None:
    if not (math.isfinite(train_loss) and math.isfinite(valid_loss)):
        raise DivergedError(
            f"the loss is not a number any more in epoch {number} "
            f"(train {train_loss}, valid {valid_loss}); lower learning_rate ({rate:g})"
        )
