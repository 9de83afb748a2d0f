"""The networks of timm as backbones, named `timm/NAME` or `timm/NAME.TAG`."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone import downloads
from flowerml.tasks.image.encoder.backbone.weights import existing, fill, misfit, read
from flowerml.tasks.image.encoder.pictures import FITS, INTERPOLATIONS, Transform

PREFIX = "timm/"


def names() -> list[str]:
    """All of them: each network, and each with each tag of weights."""
    import timm

    found = [*timm.list_models(), *timm.list_models(include_tags=True)]
    return [PREFIX + name for name in dict.fromkeys(found)]


def build(name: str, weights: str) -> tuple[nn.Module, Transform]:
    """Without its head, and the transform that belongs to its weights; raises ModelError, DownloadError."""
    _check_features(name)
    network = _network(name)
    whole = network.state_dict().keys()
    network.reset_classifier(0)
    transform = transform_of(name, network.pretrained_cfg)
    if weights != "none":
        path = _published(name, network.pretrained_cfg) if weights == "imagenet" else existing(weights)
        head = frozenset(whole - network.state_dict().keys())
        tensors = read(path)
        try:
            fill(network, tensors, head=head)
        except RuntimeError as error:
            network = _converted(name, path, misfit(path, error))
    return network, transform


def architecture(name: str, crop: int) -> nn.Module:
    """Without its head, with random weights; raises ModelError where this timm makes it for other pictures."""
    network = _network(name)
    found = transform_of(name, network.pretrained_cfg).crop
    if found != crop:
        raise ModelError(f"{name} was saved for pictures of {crop} pixels; this version of timm makes it for {found}")
    network.reset_classifier(0)
    return network


def transform_of(name: str, configuration: dict[str, Any]) -> Transform:
    """What timm's create_transform makes for evaluation; raises ModelError for what cannot be told."""
    from timm.data import resolve_data_config

    data = resolve_data_config(pretrained_cfg=configuration)
    channels, height, width = data["input_size"]
    if channels != 3 or data["crop_mode"] not in FITS or data["interpolation"] not in INTERPOLATIONS:
        raise ModelError(f"encode.backbone: {name} wants its pictures as {data}, which is not supported")
    resize, resize_width = (math.floor(side / data["crop_pct"]) for side in (height, width))
    return Transform(
        resize=resize,
        crop=height,
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        fit=data["crop_mode"],
        resize_width=None if resize_width == resize else resize_width,
        crop_width=None if width == height else width,
    )


def _network(name: str, **options: Any) -> Any:
    from timm import create_model

    return create_model(name.removeprefix(PREFIX), **options)


def _check_features(name: str) -> None:
    """Raises ModelError for a network that without its head does not give one row of features a picture."""
    with torch.device("meta"), torch.inference_mode():  # shapes without numbers, before anything is downloaded
        network = _network(name).eval()
        if not hasattr(network, "reset_classifier"):
            raise ModelError(f"encode.backbone: {name} is no classification network; it has no head to take off")
        network.reset_classifier(0)
        features = network(torch.empty(1, 3, *transform_of(name, network.pretrained_cfg).size))
    if features.ndim != 2 or features.shape[1] not in (network.num_features, network.head_hidden_size):
        raise ModelError(f"encode.backbone: {name} gives {tuple(features.shape)} for a picture, not a row of features")


def _published(name: str, configuration: dict[str, Any]) -> Path:
    if repository := configuration.get("hf_hub_id"):
        return downloads.from_hub(repository)
    if url := configuration.get("url"):
        return downloads.from_url(url)
    raise ModelError(f"encode.weights: nobody published weights for {name}; expected none or the path of a file")


def _converted(name: str, path: Path, reason: ModelError) -> nn.Module:
    """The network with the weights of a file in its authors' format, which timm translates; or raises `reason`.

    timm may leave what it did not find in the file at random, which shows where two seeds give two networks.
    """
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        try:
            network = _network(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})
        except Exception:  # a translation of another network's file fails in its own way
            raise reason from None
        network.reset_classifier(0)
        found.append(network)
    one, other = (network.state_dict() for network in found)
    if any(not torch.equal(value, other[key]) for key, value in one.items()):
        raise reason
    return found[0]
