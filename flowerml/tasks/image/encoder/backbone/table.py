"""The table of docs/reference/blocks.md: `python -m flowerml.tasks.image.encoder.backbone.table` prints it."""

import torch
from torch import nn

from flowerml.tasks.image.encoder.backbone.blocks import Depth, depth_of
from flowerml.tasks.image.encoder.backbone.timm_networks import PREFIX
from flowerml.tasks.image.encoder.backbone.torchvision_networks import remove_head

# The first and the last block of well-known networks, and how many there are.
KNOWN = {
    "tf_efficientnet_lite0": ("blocks.0", "blocks.6", 7),
    "resnet50": ("layer1", "layer4", 4),
    "mobilenet_v3_large": ("features.0", "features.16", 17),
    "efficientnet_v2_s": ("features.0", "features.7", 8),
    "convnext_tiny": ("features.0", "features.7", 8),
    "vgg16": ("features.0", "features.28", 13),
    "densenet121": ("features.denseblock1", "features.denseblock4", 7),
    "inception_v3": ("Mixed_5b", "Mixed_7c", 11),
    "vit_b_16": ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_11", 12),
    "swin_t": ("features.0", "features.7", 8),
    "timm/vit_base_patch16_224": ("blocks.0", "blocks.11", 12),
    "timm/vit_small_patch14_dinov2": ("blocks.0", "blocks.11", 12),
    "timm/eva02_tiny_patch14_224": ("blocks.0", "blocks.11", 12),
    "timm/swin_tiny_patch4_window7_224": ("layers.0", "layers.3", 4),
    "timm/convnextv2_nano": ("stages.0", "stages.3", 4),
    "timm/mobilenetv4_conv_small": ("blocks.0", "blocks.4", 5),
}


def headless(name: str) -> nn.Module:
    """Return a network without its head, with random weights."""
    if name.startswith((PREFIX, "tf_")):
        from timm import create_model

        network: nn.Module = create_model(name.removeprefix(PREFIX), num_classes=0)
        return network
    from torchvision import models

    return remove_head(models.get_model(name, weights=None))


def table() -> str:
    """Return for each network its blocks, and the share of its weights that the last ones hold, in Markdown."""
    header = (
        "| `encode.backbone` | blocks, from input to output | in the last 1 | 2 | 3 | half of them |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
    )
    return header + "".join(f"{_row(name)}\n" for name in KNOWN)


def _row(name: str) -> str:
    with torch.device("meta"):  # shapes only
        network = headless(name)
        depth = depth_of(network)
    first, last, count = depth.blocks[0], depth.blocks[-1], len(depth.blocks)
    shares = [_share(network, depth, number) for number in (1, 2, 3, count // 2)]
    columns = [f"`{name}`", f"{count}: `{first}` to `{last}`", *(f"{100 * share:.0f} %" for share in shares)]
    return f"| {' | '.join(columns)} |"


def _share(network: nn.Module, depth: Depth, count: int) -> float:
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    return sum(sizes[name] for name in depth.trained(count)) / sum(sizes.values())


if __name__ == "__main__":
    print(table(), end="")
