"""The blocks of networks: of well-known ones, of every family, and of tiny ones made for it."""

from collections import Counter
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone import blocks, depth_groups, depth_of, trained_from
from flowerml.tasks.image.encoder.backbone.table import KNOWN, headless, table

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "blocks.md"
# Of these timm no network without a sequence of blocks is known; its encoders of detectors have no head to remove.
HEADLESS = "reset_classifier"


def layer(channels: int = 2) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))


class Backwards(nn.Module):
    """Calls its modules in another order than it has them, one of them for each block, and uses a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.after = nn.Conv2d(2, 2, 1)
        self.stage2, self.stage1 = layer(), layer()
        self.between = nn.Conv2d(2, 2, 1)
        self.stem = nn.Conv2d(3, 2, 1)
        self.scale = nn.Parameter(torch.ones(2, 1, 1))
        self.unused = nn.Linear(2, 2)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        first = self.between(self.stage1(self.stem(pictures) * self.scale))
        return self.after(self.stage2(first))


def names_of(groups: list[list[str]]) -> list[set[str]]:
    return [{name.rpartition(".")[0] for name in group} for group in groups]


@pytest.mark.parametrize(("name", "expected"), [(name, blocks) for name, blocks in KNOWN.items()])
def test_blocks_of_well_known_networks(name, expected):
    with torch.device("meta"):
        depth = depth_of(headless(name))
    assert (depth.blocks[0], depth.blocks[-1], len(depth.blocks)) == expected


def test_order_is_that_of_execution():
    groups = names_of(depth_groups(Backwards(), (8, 8)))
    assert [name for name, _ in blocks(Backwards(), (8, 8))] == ["stage1", "stage2"]
    assert groups == [{"stem", "", "unused"}, {"stage1.0", "stage1.1", "between"}, {"stage2.0", "stage2.1"}, {"after"}]


@pytest.mark.parametrize(
    ("count", "first"), [(0, None), (1, "stage2"), (2, "stage1"), ("all", "stem")], ids=["none", "one", "two", "all"]
)
def test_all_that_follows_is_trained(count, first):
    trained = {name.partition(".")[0] for name in trained_from(Backwards(), count, (8, 8))}
    order = ["stem", "stage1", "between", "stage2", "after"]
    assert trained - {"scale", "unused"} == set(order[order.index(first) :] if first else [])


def test_too_many_blocks_are_refused_with_the_choices():
    with pytest.raises(ModelError) as error:
        depth_of(Backwards(), (8, 8)).trained(3, name="backwards")
    assert str(error.value) == (
        "encode.trainable_blocks: expected 0 to 2 or all for backwards, whose blocks are stage1, stage2, found 3"
    )


def test_a_network_without_blocks_is_trained_whole_or_not():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())
    depth = depth_of(network, (4, 4))
    assert depth.blocks == () and depth.trained("all") == {"0.weight", "0.bias"} and not depth.trained(0)
    with pytest.raises(ModelError, match="expected 0 or all for the backbone, which has no sequence of blocks"):
        depth.trained(1)


def test_a_network_is_left_as_it_was():
    network = Backwards().train()
    network.stage1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    depth_of(network, (8, 8))
    assert network.training and network.stage2[1].training and not network.stage1[1].training
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def assert_in_groups(name: str) -> None:
    """Assert that a network has blocks, and that each parameter is in one group."""
    with torch.device("meta"):
        network = headless(name)
        depth = depth_of(network)
    counts = Counter(parameter for group in depth.groups for parameter in group)
    assert len(depth.blocks) > 1, name
    assert counts == Counter(parameter for parameter, _ in network.named_parameters()), name
    assert all(group for group in depth.groups[1:-1]), name


@pytest.mark.extended
@pytest.mark.parametrize("module", timm.list_modules())
def test_timm_families_have_blocks(module):
    for name in timm.list_models(module=module)[:2]:
        with torch.device("meta"):
            headed = hasattr(timm.create_model(name), HEADLESS)
        if headed:
            assert_in_groups(f"timm/{name}")


@pytest.mark.extended
@pytest.mark.parametrize("name", [name for name in models.list_models(module=models) if "regnet" not in name])
def test_torchvision_networks_have_blocks(name):
    assert_in_groups(name)


def test_the_documented_table_is_true():
    assert table() in DOCUMENT.read_text(), "run python -m flowerml.tasks.image.encoder.backbone.table"
