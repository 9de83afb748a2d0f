"""The classification networks of torchvision as backbones."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone import downloads
from flowerml.tasks.image.encoder.backbone.weights import (
    existing_file,
    load_without_head,
    mismatch_error,
    read_state_dict,
    with_versions,
)
from flowerml.tasks.image.encoder.pictures import INTERPOLATIONS, Transform


def names() -> list[str]:
    """Return the name of each classification network."""
    from torchvision import models

    return models.list_models(module=models)


def build(name: str, weights: str) -> tuple[nn.Module, Transform]:
    """Return the network without its head, and the transform of its weights; raises ModelError, DownloadError."""
    from torchvision import models

    published = models.get_model_weights(name)
    selected = _select_weights(published, weights)
    transform = transform_of(name, selected)
    network = _random_network(name, transform.crop)
    whole = network.state_dict().keys()
    remove_head(network)
    if weights != "none":
        by_name = weights == "imagenet" or weights in published.__members__
        path = downloads.from_url(selected.url) if by_name else existing_file(weights)
        tensors = _current_names(read_state_dict(path))
        try:
            load_without_head(network, tensors, head=frozenset(whole - network.state_dict().keys()))
        except (RuntimeError, ValueError) as error:  # MNASNet raises ValueError
            raise mismatch_error(path, error) from None
    return network, transform


def architecture(name: str, crop: int | None) -> nn.Module:
    """Return the network without its head, with random weights, for pictures of crop x crop (None: its default)."""
    return remove_head(_random_network(name, crop))


def transform_of(name: str, published: Any) -> Transform:
    """Return the evaluation transform of a set of torchvision's weights.

    Raises ModelError for one that `Transform` does not cover. torchvision's needs torch, which a served model lacks.
    """
    from torchvision.transforms._presets import ImageClassification

    preset = published.transforms()
    interpolation = getattr(getattr(preset, "interpolation", None), "value", None)
    sides = (len(getattr(preset, side, ())) for side in ("resize_size", "crop_size"))
    if type(preset) is not ImageClassification or set(sides) != {1} or interpolation not in INTERPOLATIONS:
        raise ModelError(
            f"encode.backbone: {name} needs the preprocessing {preset!r}, which is not supported; choose another"
        )
    return Transform(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=interpolation,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def remove_head(network: nn.Module) -> nn.Module:
    """Make a torchvision classification network return features instead of logits, in place; return it.

    VGG and AlexNet lose their whole classifier, as in the notebook (25,088 features for vgg16); other networks the
    layers after the last pooling and its normalization. Auxiliary heads, used in training only, are removed too.
    Raises ModelError for a network whose head is not known.

    >>> from torchvision import models
    >>> remove_head(models.squeezenet1_1()).classifier
    AdaptiveAvgPool2d(output_size=1)
    """
    for auxiliary in ("aux1", "aux2", "AuxLogits"):
        if hasattr(network, auxiliary):
            setattr(network, auxiliary, None)
    for name, replacement in _HEADS:
        head = getattr(network, name, None)
        if isinstance(head, nn.Module):
            setattr(network, name, replacement(head))
            return network
    raise ModelError(f"encode.backbone: {type(network).__name__} has no known head to remove; choose another backbone")


def _select_weights(published: Any, weights: str) -> Any:
    """Return the set of published weights that `weights` names, or whose transform it takes.

    A file with the name of a published one takes its transform; all else the first set: the one that papers and
    courses call "the ImageNet weights".
    """
    if weights in published.__members__:
        return published[weights]
    by_file = {entry.url.rpartition("/")[2]: entry for entry in published}
    return by_file.get(weights.rpartition("/")[2], next(iter(published)))


def _random_network(name: str, crop: int | None) -> nn.Module:
    """Return torchvision's network with random weights, built with the options of its published ones.

    A state dict does not hold them: the input size of a vision transformer; the input scaling and the auxiliary heads
    of the Inceptions.
    """
    from torchvision import models

    if name.startswith("vit_") and crop is not None:
        return models.get_model(name, weights=None, image_size=crop)
    if name in ("googlenet", "inception_v3"):
        return models.get_model(name, weights=None, transform_input=True, aux_logits=True, init_weights=False)
    return models.get_model(name, weights=None)


def _current_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename layers of DenseNet's published files, in which `norm1` is still `norm.1`, as torchvision does."""
    old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
    renamed = {old.sub(r"\1\2.", name): value for name, value in tensors.items()}
    return with_versions(renamed, vars(tensors)["_metadata"])


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
