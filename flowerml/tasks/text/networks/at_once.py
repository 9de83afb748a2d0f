"""Networks that a solver fits at once, as a training of one epoch."""

from collections.abc import Iterator

from torch import nn

from flowerml.engine.fit import Epoch, State


class AtOnce:
    """A `flowerml.engine.fit.Training` whose only epoch a generator yields, once it has filled the network."""

    def __init__(self, network: nn.Module, epochs: Iterator[Epoch]) -> None:
        self._filled, self._epochs = network, epochs

    def __iter__(self) -> Iterator[Epoch]:
        return self

    def __next__(self) -> Epoch:
        return next(self._epochs)

    def close(self) -> None:
        """End the training."""
        self._filled.eval()

    def state(self) -> State:
        """See `Training`."""
        return {"network": self._filled.state_dict()}

    def resume(self, state: State) -> None:
        """See `Training`."""
        self._filled.load_state_dict(state["network"])
        self._epochs = iter(())
