"""Files of weights, of many makes."""

import argparse
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone import EMBEDDED, architecture, build
from tests.support.state_dicts import TIMM, holds, in_bytes, network_of

SMALL = ["squeezenet1_1", EMBEDDED, TIMM]


def written(path, content):
    """The path of a file of weights: .safetensors, or torch's format."""
    (save_file if path.suffix == ".safetensors" else torch.save)(content, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", [*SMALL, "mnasnet0_5"])
def test_weights_are_read_from_a_file_and_from_what_was_saved(tmp_path, name, suffix):
    state = network_of(name).state_dict()
    frozen, transform = build(name, weights=written(tmp_path / f"weights{suffix}", state), seed=0)
    assert holds(frozen, state)
    again = architecture(name, crop=transform.crop)
    again.load_state_dict(dict(frozen.state_dict()), strict=True)
    assert holds(again, state)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {"model": {"a": torch.zeros(1)}, "model_ema": {"n_averaged": torch.tensor(9), **state}},
        lambda state: OrderedDict((key, value.half().float()) for key, value in state.items()),
    ],
    ids=["torchvision", "data-parallel", "compiled", "averaged", "without-versions"],
)
def test_the_usual_wrappings_of_a_state_dict_are_taken_off(tmp_path, name, wrapped):
    state = OrderedDict((key, value.half().float()) for key, value in network_of(name).state_dict().items())
    frozen, _ = build(name, weights=written(tmp_path / "checkpoint.pth.tar", wrapped(state)), seed=0)
    assert holds(frozen, state)


@pytest.mark.parametrize("name", SMALL)
def test_the_head_in_a_file_may_have_other_classes_or_be_missing(tmp_path, name):
    state = network_of(name, num_classes=37).state_dict()
    headless = architecture(name, crop=build(name, weights="none", seed=0)[1].crop).module.state_dict()
    for number, content in enumerate((state, {key: state[key] for key in headless})):
        assert holds(build(name, weights=written(tmp_path / f"{number}.pth", content), seed=0)[0], state)


def test_the_names_of_old_densenets_are_understood(tmp_path):
    state = network_of("densenet121").state_dict()
    old = {key.replace("norm1", "norm.1").replace("conv2", "conv.2"): value for key, value in state.items()}
    old = {key: value for key, value in old.items() if "denselayer" not in key or "batches" not in key}
    frozen, _ = build("densenet121", weights=written(tmp_path / "densenet.pth", old), seed=0)
    assert holds(frozen, state)


def test_a_file_in_its_authors_format_is_translated_by_timm(tmp_path):
    state = network_of("timm/test_vit").state_dict()
    linear = {**state, "patch_embed.proj.weight": state["patch_embed.proj.weight"].flatten(1)}
    frozen, _ = build("timm/test_vit", weights=written(tmp_path / "old.pth", {"model": linear}), seed=0)
    assert holds(frozen, state)


def test_a_file_named_as_a_published_one_has_its_transform(tmp_path):
    state = network_of("mobilenet_v2").state_dict()
    transforms = [
        build("mobilenet_v2", weights=written(tmp_path / name, state), seed=0)[1]
        for name in ("mobilenet_v2-b0353104.pth", "mobilenet_v2-7ebf99e0.pth", "mine.pth")
    ]
    assert [transform.resize for transform in transforms] == [256, 232, 256]


@pytest.mark.parametrize("name", SMALL)
def test_a_missing_file_of_weights_is_named(name):
    with pytest.raises(ModelError, match=r"expected imagenet, none or the path of a file; there is no file 'no\.pth'"):
        build(name, weights="no.pth", seed=0)


@pytest.mark.parametrize("name", [*SMALL, "timm/dla46x_c"])
def test_a_file_of_another_network_is_refused(tmp_path, name):
    whole = architecture(name, crop=224 if "test" not in name else 160).module.state_dict()
    for number, content in enumerate(({"fc.weight": torch.zeros(2)}, dict(list(whole.items())[8:]))):
        with pytest.raises(ModelError, match=rf"{number}\.pth does not fit the backbone: [^\n]*Missing key"):
            build(name, weights=written(tmp_path / f"{number}.pth", content), seed=0)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("text.pth", b"roses are red", "cannot be read"),
        ("text.safetensors", b"roses are red", "cannot be read"),
        ("cut.pth", in_bytes({"fc.weight": torch.zeros(999)})[:-999], "cannot be read"),
        ("module.pth", in_bytes(nn.Linear(2, 2)), "cannot be read"),
        ("tensor.pth", in_bytes(torch.zeros(2)), "holds no state dict"),
        ("numbers.pth", in_bytes({"epoch": 3, "loss": 0.1}), "holds no state dict"),
        ("empty.pth", in_bytes({}), "holds no state dict"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused_in_one_line(tmp_path, name, file, content, reason):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(
        ModelError, match=rf"^encode\.weights: \S*{file} {reason}[^\n]*; expected tensors by name[^\n]*$"
    ):
        build(name, weights=str(tmp_path / file), seed=0)


class Trap:
    """Makes a file where it is unpickled by a reader that runs what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", SMALL)
def test_a_file_of_weights_does_not_run_code(tmp_path, name):
    torch.save({"fc.weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with pytest.raises(ModelError, match=r"trap\.pth cannot be read"):
        build(name, weights=str(tmp_path / "trap.pth"), seed=0)
    assert not (tmp_path / "sprung").exists()
