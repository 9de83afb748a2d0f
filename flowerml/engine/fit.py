"""The training loop: it yields after every epoch and knows nothing of files, MLflow, pruning or progress bars.

Not the Trainer of Lightning or transformers: there a caller prunes, saves and reports in callbacks, and checkpoints are
pickles. Here it writes a `for` loop, and the state is plain data and tensors.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from flowerml.core.errors import DivergedError
from flowerml.engine import optimizers
from flowerml.engine.averaging import BestWeights, MovingAverage
from flowerml.engine.devices import Inputs, autocast, device, on_device, repeat_to_the_bit
from flowerml.engine.mixup import Mixup
from flowerml.engine.recipe import Recipe

State = dict[str, Any]
"""Nested dicts and lists of tensors, numbers, strings and None."""


@dataclass(frozen=True)
class Epoch:
    """The metrics of one pass over the training split; losses are cross-entropies in nats, means over examples.

    train_loss is the objective: it includes label smoothing, class weights and dropout, where they are on. `chosen` has
    the hyperparameters that the training itself has chosen, by name. Without validation examples the last two are NaN.
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


PLAIN = Recipe()


class Trainer:
    """Trains a network in place by gradient descent, one epoch per step of the iteration: see `Training`.

    The best epoch is the one with the highest validation accuracy; ties are broken by lower validation loss. Training
    stops early after `patience` epochs without a better one. Raises DivergedError when a loss is not finite. `start` is
    called before the first epoch, unless the training is resumed after it.

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
        recipe: Recipe = PLAIN,
        start: Callable[[], None] | None = None,
    ) -> None:
        repeat_to_the_bit()
        network.to(device())
        weights = balanced_class_weights(data.train_counts).to(device()) if class_weights == "balanced" else None
        examples_a_step = batch_size * recipe.accumulate
        steps = math.ceil(int(data.train_counts.sum()) / examples_a_step)
        groups = recipe.groups or optimizers.whole(network)
        self._network, self._data, self._batch_size = network, data, batch_size
        self._learning_rate, self._epochs, self._patience = learning_rate, epochs, patience
        self._recipe, self._groups, self._start = recipe, groups, start
        self._loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=label_smoothing)
        self._optimizer = optimizers.optimizer(optimizer, groups, rate=learning_rate, decay=weight_decay)
        self._scheduler = optimizers.scheduler(
            schedule,
            self._optimizer,
            rates=[learning_rate * group.share for group in groups],
            steps=steps * epochs,
            warmup=max(0, min(round(steps * recipe.warmup_epochs), steps * epochs - 2)),
        )
        self._best = BestWeights(network)
        self._average: MovingAverage | None = None
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
            "average": self._average.state() if self._average else None,
            "generators": rng_state(),
        }

    def resume(self, state: State) -> None:
        """See `Training`."""
        self._number = state["number"]
        self._network.load_state_dict(state["network"])
        optimizers.resume(self._optimizer, state["optimiser"])
        self._scheduler.load_state_dict(state["schedule"])
        self._best.resume(state["best"])
        if state["average"] is not None:
            self._average = MovingAverage(self._network, decay=self._recipe.ema)
            self._average.resume(state["average"])
        set_rng_state(state["generators"])

    def _epoch(self, number: int) -> Epoch:
        """Train for an epoch and keep its weights if they are the best."""
        started = time.perf_counter()
        if number == 1 and self._start:
            self._start()
        if self._recipe.ema and self._average is None:  # not sooner: the weights to start from may have been loaded
            self._average = MovingAverage(self._network, decay=self._recipe.ema)
        for group in self._groups:
            if group.body:
                for parameter in group.parameters:
                    parameter.requires_grad_(number > self._recipe.freeze_epochs)
        rate = max(group["lr"] for group in self._optimizer.param_groups)
        train = self._train()
        with self._average.applied() if self._average else nullcontext():
            valid = evaluate(self._network, self._data.valid(batch_size=self._batch_size), self._recipe.precision)
            _check_finite(number, train[0], valid, self._learning_rate)
            epoch = Epoch(number, *train, *valid, rate, time.perf_counter() - started)
            self._best.update(epoch)
        return epoch

    def _train(self) -> tuple[float, float]:
        """Take the steps of an epoch; return the mean loss and the accuracy."""
        self._network.train()
        mean = _RunningMean()
        batches = on_device(self._data.train(batch_size=self._batch_size))
        while group := list(islice(batches, self._recipe.accumulate)):
            examples = sum(len(targets) for _, targets in group)
            self._optimizer.zero_grad(set_to_none=True)
            for inputs, targets in group:
                loss, logits = self._forward(inputs, targets)
                (loss * (len(targets) / examples)).backward()
                mean.add(loss.detach(), logits.detach(), targets)
            self._step()
        return mean.result()

    def _forward(self, inputs: Inputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        mixup = Mixup.draw(self._recipe.mixup) if self._recipe.mixup else None
        with autocast(self._recipe.precision):
            logits = self._network(*(mixup.inputs(inputs) if mixup else inputs))
        logits = logits.float()
        loss = mixup.loss(self._loss, logits, targets) if mixup else self._loss(logits, targets)
        return loss, logits

    def _step(self) -> None:
        if self._recipe.clip_norm is not None:
            trained = [parameter for group in self._groups for parameter in group.parameters]
            nn.utils.clip_grad_norm_(trained, self._recipe.clip_norm)
        self._optimizer.step()
        self._scheduler.step()
        if self._average:
            self._average.update()


def evaluate(
    network: nn.Module, batches: Iterator[tuple[Inputs, Tensor]], precision: str = "float32"
) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy of `network` over the batches; NaN if there are none."""
    network.eval()
    mean = _RunningMean()
    with torch.inference_mode(), autocast(precision):
        for inputs, targets in on_device(batches):
            logits = network(*inputs).float()
            mean.add(nn.functional.cross_entropy(logits, targets), logits, targets)
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
        if not self.count:
            return math.nan, math.nan
        return self.loss.item() / self.count, self.hits.item() / self.count


def rng_state() -> State:
    """Return the states of torch's generators; training draws from no others."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_rng_state(state: State) -> None:
    """Set torch's generators to an `rng_state()`."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def balanced_class_weights(counts: Tensor) -> Tensor:
    """Return a weight per class, inverse to its frequency; the mean over examples is 1. counts [C].

    The "balanced" of scikit-learn's compute_class_weight, from counts instead of labels; a class without examples
    counts as having one.

    >>> balanced_class_weights(torch.tensor([3, 1]))
    tensor([0.6667, 2.0000])
    """
    return counts.sum() / (len(counts) * counts.clamp(min=1))


def _check_finite(number: int, train_loss: float, valid: tuple[float, float], rate: float) -> None:
    valid_loss, valid_accuracy = valid
    no_examples = math.isnan(valid_accuracy)
    if not (math.isfinite(train_loss) and (no_examples or math.isfinite(valid_loss))):
        raise DivergedError(
            f"the loss is not finite in epoch {number} "
            f"(train {train_loss}, valid {valid_loss}); lower learning_rate ({rate:g})"
        )
