"""Files of weights, in the formats that training scripts write."""

import argparse
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone import EMBEDDED, architecture, build
from tests.support.state_dicts import TIMM, has_weights, torch_bytes, whole_network

SMALL = ["squeezenet1_1", EMBEDDED, TIMM]


def write_weights(path, content) -> str:
    """Write weights as .safetensors, or in torch's format; return the path."""
    (save_file if path.suffix == ".safetensors" else torch.save)(content, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", [*SMALL, "mnasnet0_5"])
def test_weights_are_read_and_saved(tmp_path, name, suffix):
    state = whole_network(name).state_dict()
    frozen, transform = build(name, weights=write_weights(tmp_path / f"weights{suffix}", state), seed=0)
    assert has_weights(frozen, state)
    again = architecture(name, crop=transform.crop)
    again.load_state_dict(dict(frozen.state_dict()), strict=True)
    assert has_weights(again, state)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {"model": {"a": torch.zeros(1)}, "model_ema": {"n_averaged": torch.tensor(9), **state}},
        lambda state: OrderedDict((key, value.half().float()) for key, value in state.items()),
    ],
    ids=["torchvision", "data-parallel", "compiled", "averaged", "without-versions"],
)
def test_wrappers_are_removed(tmp_path, name, wrap):
    state = OrderedDict((key, value.half().float()) for key, value in whole_network(name).state_dict().items())
    frozen, _ = build(name, weights=write_weights(tmp_path / "checkpoint.pth.tar", wrap(state)), seed=0)
    assert has_weights(frozen, state)


@pytest.mark.parametrize("name", SMALL)
def test_the_head_may_differ_or_be_missing(tmp_path, name):
    state = whole_network(name, num_classes=37).state_dict()
    headless = architecture(name, crop=build(name, weights="none", seed=0)[1].crop).module.state_dict()
    for number, content in enumerate((state, {key: state[key] for key in headless})):
        assert has_weights(build(name, weights=write_weights(tmp_path / f"{number}.pth", content), seed=0)[0], state)


def test_old_densenet_names(tmp_path):
    state = whole_network("densenet121").state_dict()
    old = {key.replace("norm1", "norm.1").replace("conv2", "conv.2"): value for key, value in state.items()}
    old = {key: value for key, value in old.items() if "denselayer" not in key or "batches" not in key}
    frozen, _ = build("densenet121", weights=write_weights(tmp_path / "densenet.pth", old), seed=0)
    assert has_weights(frozen, state)


def test_timm_converts_the_authors_format(tmp_path):
    state = whole_network("timm/test_vit").state_dict()
    linear = {**state, "patch_embed.proj.weight": state["patch_embed.proj.weight"].flatten(1)}
    frozen, _ = build("timm/test_vit", weights=write_weights(tmp_path / "old.pth", {"model": linear}), seed=0)
    assert has_weights(frozen, state)


def test_a_published_file_name_sets_transform(tmp_path):
    state = whole_network("mobilenet_v2").state_dict()
    transforms = [
        build("mobilenet_v2", weights=write_weights(tmp_path / name, state), seed=0)[1]
        for name in ("mobilenet_v2-b0353104.pth", "mobilenet_v2-7ebf99e0.pth", "mine.pth")
    ]
    assert [transform.resize for transform in transforms] == [256, 232, 256]


@pytest.mark.parametrize("name", SMALL)
def test_a_missing_file_is_named(name):
    with pytest.raises(ModelError, match=r"expected imagenet, none or the path of a file; there is no file 'no\.pth'"):
        build(name, weights="no.pth", seed=0)


@pytest.mark.parametrize("name", [*SMALL, "timm/dla46x_c"])
def test_weights_of_another_network(tmp_path, name):
    whole = architecture(name, crop=224 if "test" not in name else 160).module.state_dict()
    for number, content in enumerate(({"fc.weight": torch.zeros(2)}, dict(list(whole.items())[8:]))):
        with pytest.raises(ModelError, match=rf"{number}\.pth does not fit the backbone: [^\n]*Missing key"):
            build(name, weights=write_weights(tmp_path / f"{number}.pth", content), seed=0)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("text.pth", b"roses are red", "cannot be read"),
        ("text.safetensors", b"roses are red", "cannot be read"),
        ("cut.pth", torch_bytes({"fc.weight": torch.zeros(999)})[:-999], "cannot be read"),
        ("module.pth", torch_bytes(nn.Linear(2, 2)), "cannot be read"),
        ("tensor.pth", torch_bytes(torch.zeros(2)), "holds no state dict"),
        ("numbers.pth", torch_bytes({"epoch": 3, "loss": 0.1}), "holds no state dict"),
        ("empty.pth", torch_bytes({}), "holds no state dict"),
    ],
)
def test_a_file_without_a_state_dict(tmp_path, name, file, content, reason):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(
        ModelError, match=rf"^encode\.weights: \S*{file} {reason}[^\n]*; expected tensors by name[^\n]*$"
    ):
        build(name, weights=str(tmp_path / file), seed=0)


class Trap:
    """An object that creates a file when it is unpickled by a reader that runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", SMALL)
def test_reading_weights_runs_no_code(tmp_path, name):
    torch.save({"fc.weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with pytest.raises(ModelError, match=r"trap\.pth cannot be read"):
        build(name, weights=str(tmp_path / "trap.pth"), seed=0)
    assert not (tmp_path / "sprung").exists()
