"""The classification networks of torchvision as backbones."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone import downloads
from flowerml.tasks.image.encoder.backbone.weights import existing, fill, misfit, read, versioned
from flowerml.tasks.image.encoder.pictures import INTERPOLATIONS, Transform


def names() -> list[str]:
    """All of them."""
    from torchvision import models

    return models.list_models(module=models)


def build(name: str, weights: str) -> tuple[nn.Module, Transform]:
    """Without its head, and the transform that belongs to its weights; raises ModelError, DownloadError."""
    from torchvision import models

    published = models.get_model_weights(name)
    chosen = _chosen(published, weights)
    transform = transform_of(name, chosen)
    network = _bare(name, transform.crop)
    whole = network.state_dict().keys()
    without_head(network)
    if weights != "none":
        by_name = weights == "imagenet" or weights in published.__members__
        path = downloads.from_url(chosen.url) if by_name else existing(weights)
        tensors = _todays_names(read(path))
        try:
            fill(network, tensors, head=frozenset(whole - network.state_dict().keys()))
        except (RuntimeError, ValueError) as error:  # ValueError is MNASNet's
            raise misfit(path, error) from None
    return network, transform


def architecture(name: str, crop: int) -> nn.Module:
    """Without its head, with random weights, for pictures of crop x crop."""
    return without_head(_bare(name, crop))


def transform_of(name: str, published: Any) -> Transform:
    """The transform of a set of torchvision's weights; raises ModelError for one that cannot be told."""
    from torchvision.transforms._presets import ImageClassification

    preset = published.transforms()
    interpolation = getattr(getattr(preset, "interpolation", None), "value", None)
    sides = (len(getattr(preset, side, ())) for side in ("resize_size", "crop_size"))
    if type(preset) is not ImageClassification or set(sides) != {1} or interpolation not in INTERPOLATIONS:
        raise ModelError(f"encode.backbone: {name} wants its pictures as {preset!r}, which is not supported")
    return Transform(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=interpolation,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def without_head(network: nn.Module) -> nn.Module:
    """A torchvision classification network that gives its features instead of classes, changed in place.

    Of VGG and AlexNet the whole classifier goes, as in the notebook (25,088 features for vgg16); of others what
    follows the last pooling and its normalisation. What is there for training only goes too.
    """
    for auxiliary in ("aux1", "aux2", "AuxLogits"):
        if hasattr(network, auxiliary):
            setattr(network, auxiliary, None)
    for name, replaced in _HEADS:
        head = getattr(network, name, None)
        if isinstance(head, nn.Module):
            setattr(network, name, replaced(head))
            return network
    raise ModelError(f"encode.backbone: {type(network).__name__} has no head that is known")


def _chosen(published: Any, weights: str) -> Any:
    """The set of weights that is meant, or whose transform is.

    The first is the one whose name means "the ImageNet weights" in papers and courses. A file that is called as a
    published one takes that one's transform.
    """
    if weights in published.__members__:
        return published[weights]
    by_file = {one.url.rpartition("/")[2]: one for one in published}
    return by_file.get(weights.rpartition("/")[2], next(iter(published)))


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


def _todays_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """DenseNet's files were written when a layer could be called `norm.1`; torchvision renames them too."""
    old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
    renamed = {old.sub(r"\1\2.", name): value for name, value in tensors.items()}
    return versioned(renamed, vars(tensors)["_metadata"])


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
