"""Backbones cut in front of a block."""

import pytest
import torch
from torch import nn

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone import Frozen, depth_of
from flowerml.tasks.image.encoder.backbone.split import split
from flowerml.tasks.image.encoder.backbone.table import headless

SIZE = (64, 64)
NETWORKS = ["timm/test_resnet", "timm/vit_tiny_patch16_224", "timm/test_efficientnet", "timm/test_convnext"]


def layer() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))


class Residual(nn.Module):
    """A network whose pictures are read again behind its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(layer(), layer())

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return (self.blocks(pictures) + pictures).mean((2, 3))


class Batched(nn.Module):
    """A network that uses the size of the batch, and asserts a size, as vision transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([layer(), layer()])

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        count, _, height, _ = pictures.shape
        torch._assert(height == 4, "wrong height")
        for block in self.blocks:
            pictures = block(pictures)
        return pictures.reshape(count, 3, height, -1).mean((2, 3))


def pictures(count: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_both_parts_give_the_same_bits_as_the_whole(name, count):
    frozen = Frozen(headless(name).eval())
    size = (224, 224) if "vit" in name else SIZE
    blocks = depth_of(frozen, size).blocks
    parts = split(frozen, blocks, count, size=size, name=name)
    with torch.inference_mode():
        activations = parts.front(pictures(3, size))
        assert activations.shape[1:] == parts.shape
        assert torch.equal(parts.tail(activations), frozen(pictures(3, size)))


def test_the_tail_has_the_trained_parameters_by_their_names():
    frozen = Frozen(headless("timm/test_resnet").eval())
    depth = depth_of(frozen, SIZE)
    tail = split(frozen, depth.blocks, 2, size=SIZE, name="test").tail
    assert {name for name, _ in tail.named_parameters()} == depth.trained(2)
    assert tail.state_dict().keys() <= frozen.state_dict().keys()


def test_blocks_keep_their_modes():
    network = nn.Sequential(layer(), layer(), nn.Flatten()).train()
    tail = split(network, ["0", "1"], 1, size=(4, 4), name="test").tail
    assert network[1].training
    before = network[1][1].running_mean.clone()
    tail.train()(pictures(2, (4, 4)))
    assert not torch.equal(network[1][1].running_mean, before)


def test_any_batch_goes_through_a_network_that_knows_its_size():
    network = Batched().eval()
    parts = split(network, ["blocks.0", "blocks.1"], 1, size=(4, 4), name="test")
    for count in (1, 5):
        assert torch.equal(parts.tail(parts.front(pictures(count, (4, 4)))), network(pictures(count, (4, 4))))


@pytest.mark.parametrize("count", [0, 3, "all"])
def test_a_border_without_a_block_is_refused(count):
    with pytest.raises(ModelError, match=r"encode.cache: .*expected 1 to 2 trained blocks, found"):
        split(nn.Sequential(layer(), layer()), ["0", "1"], count, size=(4, 4), name="test")


def test_a_second_way_around_the_border_is_refused():
    with pytest.raises(
        ModelError, match=r"activations of test cannot be cached \(2 tensors lead to blocks.1\); set it"
    ):
        split(Residual(), ["blocks.0", "blocks.1"], 1, size=(4, 4), name="test")
