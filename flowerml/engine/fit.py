"""The training loop: it yields after every epoch and knows nothing of files, MLflow, pruning or progress bars.

Not the Trainer of Lightning or transformers: there a caller prunes, saves and reports in callbacks, and checkpoints are
pickles. Here it writes a `for` loop, and the state is plain data and tensors.
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from flowerml.core.errors import DivergedError

Inputs = tuple[Tensor, ...]
State = dict[str, Any]
"""Nested dicts and lists of tensors, numbers, strings and None."""


@dataclass(frozen=True)
class Epoch:
    """The metrics of one pass over the training split; losses are cross-entropies in nats, means over examples.

    train_loss is the objective: it includes label smoothing, class weights and dropout, where they are on. `chosen` has
    the hyperparameters that the training itself has chosen, by name.
    """

    number: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    learning_rate: float
    seconds: float
    chosen: dict[str, float] = field(default_factory=dict)


class Batches(Protocol):
    """Encoded examples in batches of (inputs of the network, targets [B])."""

    train_counts: Tensor
    """The number of training examples of each class, [C]."""

    def train(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield one epoch's training batches, in an order drawn from torch's generator."""

    def valid(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield the validation batches, always in the same order."""


def device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Training(Protocol):
    """A network in training: an iterator over its epochs whose state can be saved after each of them.

    However the iteration ends, `close()` included, the network is left with the weights of the best epoch so far.
    """

    def __iter__(self) -> Iterator[Epoch]: ...

    def __next__(self) -> Epoch:
        """Train for an epoch. Raises StopIteration after the last one, and DivergedError."""

    def close(self) -> None:
        """Stop training."""

    def state(self) -> State:
        """Return all that the remaining epochs depend on, including the weights and torch's generators."""

    def resume(self, state: State) -> None:
        """Continue from `state`, to the same weights, bit for bit, as without the interruption.

        Only for a training of the same network, data and parameters that has not started.
        """


class Trainer:
    """Trains a network in place by gradient descent, one epoch per step of the iteration: see `Training`.

    The best epoch is the one with the highest validation accuracy; ties are broken by lower validation loss. Training
    stops early after `patience` epochs without a better one. Raises DivergedError when a loss is not finite.

    >>> class Points:
    ...     train_counts = torch.tensor([1, 1])
    ...     def train(self, *, batch_size):
    ...         yield (torch.tensor([[-1.0], [1.0]]),), torch.tensor([0, 1])
    ...     valid = train
    >>> section = {"learning_rate": 0.1, "batch_size": 2, "epochs": 20, "optimizer": "adamw", "weight_decay": 0.0}
    >>> section |= {"schedule": "constant", "label_smoothing": 0.0, "patience": None, "class_weights": None}
    >>> _ = torch.manual_seed(0)
    >>> epochs = list(Trainer(nn.Linear(1, 2), Points(), **section))
    >>> epochs[-1].number, epochs[-1].valid_accuracy
    (20, 1.0)
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
        weights = balanced_class_weights(data.train_counts).to(device()) if class_weights == "balanced" else None
        steps = math.ceil(int(data.train_counts.sum()) / batch_size) * epochs
        self._network, self._data, self._batch_size = network, data, batch_size
        self._learning_rate, self._epochs, self._patience = learning_rate, epochs, patience
        self._loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=label_smoothing)
        self._optimizer = _optimizer(network, optimizer, learning_rate, weight_decay)
        self._scheduler = _scheduler(self._optimizer, schedule, learning_rate, steps)
        self._best = BestWeights(network)
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
        self._best.update(epoch)
        return epoch

    def close(self) -> None:
        """Restore the best weights and stop training."""
        self._epochs = 0
        self._best.restore()

    def state(self) -> State:
        """See `Training`."""
        return {
            "number": self._number,
            "network": self._network.state_dict(),
            "optimiser": self._optimizer.state_dict(),  # the spelling in checkpoints that are already on disk
            "schedule": self._scheduler.state_dict(),
            "best": self._best.state(),
            "generators": rng_state(),
        }

    def resume(self, state: State) -> None:
        """See `Training`."""
        self._number = state["number"]
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimiser"])
        self._scheduler.load_state_dict(state["schedule"])
        self._best.resume(state["best"])
        set_rng_state(state["generators"])

    def _epoch(self, number: int) -> Epoch:
        started = time.perf_counter()
        rate = self._optimizer.param_groups[0]["lr"]
        batches = self._data.train(batch_size=self._batch_size)
        train = _train(self._network, batches, self._loss, self._optimizer, self._scheduler)
        valid = evaluate(self._network, self._data.valid(batch_size=self._batch_size))
        _check_finite(number, train[0], valid[0], self._learning_rate)
        return Epoch(number, *train, *valid, rate, time.perf_counter() - started)


def evaluate(network: nn.Module, batches: Iterator[tuple[Inputs, Tensor]]) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy of `network` over the batches."""
    network.eval()
    mean = _RunningMean()
    with torch.inference_mode():
        for inputs, targets in _to_device(batches):
            logits = network(*inputs)
            mean.add(nn.functional.cross_entropy(logits, targets), logits, targets)
    return mean.result()


def _train(
    network: nn.Module,
    batches: Iterator[tuple[Inputs, Tensor]],
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
) -> tuple[float, float]:
    network.train()
    mean = _RunningMean()
    for inputs, targets in _to_device(batches):
        logits = network(*inputs)
        loss = criterion(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        mean.add(loss.detach(), logits.detach(), targets)
    return mean.result()


class _RunningMean:
    """Mean loss and accuracy, summed on the device: reading a number back in every batch would wait for the GPU."""

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


class BestWeights:
    """A network's weights at its best epoch so far: highest validation accuracy, ties broken by lower loss.

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

    def update(self, epoch: Epoch) -> None:
        """Keep a copy of the current weights if this epoch is the best so far."""
        key = (epoch.valid_accuracy, -epoch.valid_loss)
        if key > self.key:
            self.key, self.epoch = key, epoch.number
            self.weights = copy.deepcopy(self.network.state_dict())

    def restore(self) -> None:
        """Put the best weights back into the network, and the network into evaluation mode."""
        if self.weights is not None:
            self.network.load_state_dict(self.weights)
        self.network.eval()

    def state(self) -> State:
        """Return the best epoch and its weights."""
        return {"key": self.key, "epoch": self.epoch, "weights": self.weights}

    def resume(self, state: State) -> None:
        """Continue from a `state()`."""
        self.key, self.epoch, self.weights = (*state["key"],), state["epoch"], state["weights"]


def rng_state() -> State:
    """Return the states of torch's generators; training draws from no others."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_rng_state(state: State) -> None:
    """Set torch's generators to an `rng_state()`."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _to_device(batches: Iterator[tuple[Inputs, Tensor]]) -> Iterator[tuple[Inputs, Tensor]]:
    target = device()
    for inputs, targets in batches:
        yield (
            tuple(tensor.to(target, non_blocking=True) for tensor in inputs),
            targets.to(target, non_blocking=True),
        )


def balanced_class_weights(counts: Tensor) -> Tensor:
    """Return a weight per class, inverse to its frequency; the mean over examples is 1. counts [C].

    The "balanced" of scikit-learn's compute_class_weight, from counts instead of labels; a class without examples
    counts as having one.

    >>> balanced_class_weights(torch.tensor([3, 1]))
    tensor([0.6667, 2.0000])
    """
    return counts.sum() / (len(counts) * counts.clamp(min=1))


def _optimizer(network: nn.Module, name: str, rate: float, decay: float) -> torch.optim.Optimizer:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return kind(trained, lr=rate, weight_decay=decay, fused=True)  # one pass over the weights: half the time


def _scheduler(optimizer: torch.optim.Optimizer, name: str, rate: float, steps: int) -> LRScheduler:
    if name == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    if name == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _check_finite(number: int, train_loss: float, valid_loss: float, rate: float) -> None:
    if not (math.isfinite(train_loss) and math.isfinite(valid_loss)):
        raise DivergedError(
            f"the loss is not finite in epoch {number} "
            f"(train {train_loss}, valid {valid_loss}); lower learning_rate ({rate:g})"
        )
