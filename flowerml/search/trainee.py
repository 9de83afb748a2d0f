"""A worker's side of a search: it trains one network at a time, as the driver tells it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowerml.core.errors import DivergedError
from flowerml.engine.fit import Epoch
from flowerml.search import state
from flowerml.search.networks import Builder, Weights, started
from flowerml.search.pruning import NEVER, Stop

if TYPE_CHECKING:
    from torch import nn

    from flowerml.config.params import Train
    from flowerml.engine.fit import Training


@dataclass(frozen=True)
class Advance:
    """What a training did since it was last asked: its new epochs, and its state, if that was wanted.

    `seconds` is what it took to make the state. `diverged` is why a training failed, which has then ended.
    """

    epochs: tuple[Epoch, ...]
    ended: bool
    state: bytes | None = None
    seconds: float = 0.0
    diverged: str | None = None


class Trainee:
    """Trains networks in a worker, one at a time.

    `section` makes a section from plain data, which is what travels. With `weights` every network starts from them.
    """

    def __init__(self, builder: Builder, section: "Callable[[dict[str, Any]], Train]", weights: Weights | None) -> None:
        self._builder, self._section, self._weights = builder, section, weights
        self._network: nn.Module | None = None
        self._training: Training | None = None
        self._epochs: list[Epoch] = []
        self._stop, self._label = NEVER, ""

    def start(self, kind: str, section: dict[str, Any], stop: Stop, label: str, content: bytes | None) -> int:
        """Begin a training of this kind, or resume it from the content of a state of its label.

        Return the number of epochs that it has behind it. Raises ModelError where the starting weights do not fit.
        """
        self.abandon()
        self._stop, self._label = stop, label
        self._network, self._training = started(self._builder, kind, self._section(section), self._weights)
        saved = None if content is None else state.from_bytes(content, label)
        if saved is not None:
            self._training.resume(saved.state)
            self._epochs = [*saved.epochs]
        return len(self._epochs)

    def advance(self, seconds: float, want_state: bool) -> Advance:
        """Train for an epoch, and for more while these seconds last; return what was done."""
        assert self._training is not None, "a training has been started"
        began, first, ended = time.monotonic(), len(self._epochs), False
        try:
            while not ended and (len(self._epochs) == first or time.monotonic() - began < seconds):
                epoch = next(self._training, None)
                if epoch is not None:
                    self._epochs.append(epoch)
                ended = epoch is None or self._stop.ends(self._epochs)
        except DivergedError as error:
            return Advance(tuple(self._epochs[first:]), ended=True, diverged=str(error))
        epochs = tuple(self._epochs[first:])
        if ended:
            self._training.close()  # which restores the best weights
        if ended or not want_state:
            return Advance(epochs, ended)
        began = time.monotonic()
        content = state.to_bytes(self._label, self._epochs, self._training.state())
        return Advance(epochs, ended, content, time.monotonic() - began)

    def weights(self) -> bytes:
        """Return the weights of the best epoch of a training that has ended, as a safetensors file."""
        assert self._network is not None, "a training has been started"
        return state.weights_to_bytes(self._network.state_dict())

    def abandon(self) -> None:
        """Let go of the network."""
        self._network = self._training = None
        self._epochs = []
