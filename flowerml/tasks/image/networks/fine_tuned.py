"""A pretrained backbone whose last blocks are trained with a head."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flowerml.engine.devices import device
from flowerml.engine.optimizers import Group, without_decay_of_vectors

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


PARTS = ("weight", "bias")  # of a convolution
BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class FineTuned(nn.Module):
    """Normalized pictures [B, 3, H, W] -> logits [B, C]; or activations, if `backbone` begins behind frozen blocks.

    `backbone` is copied; of its parameters those named in `trained` are trained, but neither kernels of depthwise
    convolutions, unless `train_depthwise`, nor, if `batch_norm` is frozen, statistics of batches. What is not trained
    stays in evaluation mode. A whole state dict can be loaded, or that of a head alone.

    >>> backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> network = FineTuned(backbone, nn.Linear(4, 2), trained={"1.weight", "1.bias"}, reads="image").train()
    >>> [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    ['backbone.1.weight', 'backbone.1.bias', 'head.weight', 'head.bias']
    >>> network.backbone[1].training, network(torch.zeros(5, 3, 8, 8)).shape
    (False, torch.Size([5, 2]))
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        trained: "AbstractSet[str]",
        reads: str,
        batch_norm: str = "frozen",
        train_depthwise: bool | None = None,
    ) -> None:
        super().__init__()
        self.reads = reads
        self.started = False
        """Whether weights to start from were loaded."""
        self.backbone = copy.deepcopy(backbone)
        self.head = head
        self._freezes_statistics = batch_norm == "frozen"
        depthwise = {name for name, module in self.backbone.named_modules() if _is_depthwise(module)}
        # Their biases neither: with one of them torch computes the gradient of the kernels, too.
        untrained = set() if _trains(train_depthwise) else {f"{name}.{part}" for name in depthwise for part in PARTS}
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name in trained and name not in untrained)
        # Convolutions of the last axis: 1.7 times as fast on a CPU, and what tensor cores want.
        self.to(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> Tensor:
        with _saved_statistics(self.backbone, wanted=len(inputs) == 1):
            features = self.backbone(inputs)
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features.float())
        return logits

    def train(self, mode: bool = True) -> "FineTuned":
        """Put what is trained into training mode, or everything into evaluation mode."""
        self._set_mode(self, mode)
        return self

    def _set_mode(self, module: nn.Module, mode: bool) -> None:
        # By hand, as a frozen backbone's own `train` does nothing.
        frozen = _is_frozen(module) or (self._freezes_statistics and isinstance(module, BATCH_NORM))
        module.training = mode and not frozen
        for child in module.children():
            self._set_mode(child, module.training)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a whole state dict, or that of the head alone."""
        loaded = (
            self.head.load_state_dict(state_dict, strict, assign)
            if state_dict.keys() == self.head.state_dict().keys()
            else super().load_state_dict(state_dict, strict, assign)
        )
        self.started = True
        return loaded

    def groups(self, depth: Sequence[Sequence[str]], *, share: float, layer_decay: float) -> list[Group]:
        """Return the parameters to train in groups of their learning rates.

        `depth` names those of the backbone from input to output. The head trains at the full rate, what is nearest to
        it at `share`, and each group below at `layer_decay` times the rate of the one above.
        """
        groups = without_decay_of_vectors([*self.head.parameters()], share=1.0, body=False)
        parameters = dict(self.backbone.named_parameters())
        for names in _trained_parts(parameters, depth):
            groups += without_decay_of_vectors([parameters[name] for name in names], share=share, body=True)
            share *= layer_decay
        return groups


@contextmanager
def _saved_statistics(backbone: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Have batch norms in training use their saved statistics, if `wanted`: one example alone has none."""
    modules = backbone.modules() if wanted else ()
    norms = [module for module in modules if isinstance(module, BATCH_NORM) and module.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


def _trained_parts(parameters: Mapping[str, nn.Parameter], depth: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the names of the parameters that are trained, from output to input."""
    for names in reversed(depth):
        if part := [name for name in names if parameters[name].requires_grad]:
            yield part


def _is_frozen(module: nn.Module) -> bool:
    """Return whether it has parameters, and trains none of them."""
    parameters = [*module.parameters()]
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


def _trains(train_depthwise: bool | None) -> bool:
    # On a CPU the gradient of these kernels takes more than half of a step, and they hold 3 % of the weights.
    return device().type != "cpu" if train_depthwise is None else train_depthwise
