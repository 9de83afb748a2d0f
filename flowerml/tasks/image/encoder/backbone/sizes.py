"""Networks for pictures of another size than the one they were published for."""

from typing import Any

import torch
from torch import nn

from flowerml.core.display import one_line
from flowerml.core.errors import ModelError


def resize(network: nn.Module, name: str, side: int) -> nn.Module:
    """Prepare a network without its head for squares of `side` pixels, in place; return it.

    Convolutional networks take any size. Position embeddings of vision transformers are interpolated, by timm and
    torchvision. Raises ModelError, which calls the network `name`, where it takes no other size.
    """
    adaptable: Any = network
    try:
        if hasattr(network, "set_input_size"):
            adaptable.set_input_size(img_size=(side, side))
        elif hasattr(network, "image_size"):
            _resize_positions(adaptable, side)
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, side, side))
    # Networks check sizes, or fail somewhere inside: by an assertion, a shape or an index.
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = one_line(str(error).splitlines()[0] if str(error) else type(error).__name__, 120)
        raise ModelError(
            f"encode.size: {name} takes no pictures of {side} pixels ({reason}); set it to null, for its own size, "
            "or try a multiple of 32"
        ) from None
    return network


def _resize_positions(network: Any, side: int) -> None:
    """Interpolate the position embeddings of a vision transformer of torchvision."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    state = interpolate_embeddings(side, network.patch_size, network.state_dict())
    network.encoder.pos_embedding = nn.Parameter(state["encoder.pos_embedding"])
    network.image_size, network.seq_length = side, state["encoder.pos_embedding"].shape[1]
