"""A module that never trains."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from flowerml.tasks.image.encoder.backbone.weights import with_versions


class Frozen(nn.Module):
    """A module that never trains: no gradients, and no drifting batch statistics. Gives features [N, D].

    >>> frozen = Frozen(nn.BatchNorm1d(3)).train()
    >>> frozen.module.training, any(parameter.requires_grad for parameter in frozen.parameters())
    (False, False)
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Frozen":
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        return self.module(pictures).flatten(1)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict as any module does; a plain dict is taken to be of the current layer versions.

        safetensors returns plain dicts, which carry no layer versions, and MNASNet rejects a state dict without them.
        """
        if not hasattr(state_dict, "_metadata"):
            state_dict = with_versions(state_dict, vars(self.state_dict())["_metadata"])
        return super().load_state_dict(state_dict, strict=strict, assign=assign)
