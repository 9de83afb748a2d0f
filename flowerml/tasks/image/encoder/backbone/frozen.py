"""What keeps a backbone as it is."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from flowerml.tasks.image.encoder.backbone.weights import versioned


class Frozen(nn.Module):
    """A module that never trains: no gradients, and no drifting batch statistics. Gives features [N, D]."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Frozen":
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        return self.module(pictures).flatten(1)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As any module's, but that a plain dict, which has no versions of layers, is taken to be of today's.

        safetensors reads plain dicts, and MNASNet refuses what has no version.
        """
        if not hasattr(state_dict, "_metadata"):
            state_dict = versioned(state_dict, vars(self.state_dict())["_metadata"])
        return super().load_state_dict(state_dict, strict=strict, assign=assign)
