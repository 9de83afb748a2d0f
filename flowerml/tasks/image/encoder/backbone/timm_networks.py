"""The networks of timm as backbones, named `timm/NAME` or `timm/NAME.TAG`."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone import downloads
from flowerml.tasks.image.encoder.backbone.weights import (
    existing_file,
    load_without_head,
    mismatch_error,
    read_state_dict,
)
from flowerml.tasks.image.encoder.pictures import FITS, INTERPOLATIONS, Transform

PREFIX = "timm/"


def names() -> list[str]:
    """Return the name of each network, and of each network with each of its tags."""
    import timm

    every_name = [*timm.list_models(), *timm.list_models(include_tags=True)]
    return [PREFIX + name for name in dict.fromkeys(every_name)]


def build(name: str, weights: str) -> tuple[nn.Module, Transform]:
    """Return the network without its head, and the transform of its weights; raises ModelError, DownloadError."""
    _check_features(name)
    network = _network(name)
    whole = network.state_dict().keys()
    network.reset_classifier(0)
    transform = transform_of(name, network.pretrained_cfg)
    if weights != "none":
        path = _published(name, network.pretrained_cfg) if weights == "imagenet" else existing_file(weights)
        head = frozenset(whole - network.state_dict().keys())
        tensors = read_state_dict(path)
        try:
            load_without_head(network, tensors, head=head)
        except RuntimeError as error:
            network = _load_converted(name, path, mismatch_error(path, error))
    return network, transform


def architecture(name: str, crop: int | None) -> nn.Module:
    """Return the network without its head, with random weights, for pictures of `crop` (None: those it is built for).

    Raises ModelError where the installed timm builds it for pictures of another size.
    """
    network = _network(name)
    crop_here = transform_of(name, network.pretrained_cfg).crop
    if crop is not None and crop_here != crop:
        raise ModelError(
            f"{name} was saved for pictures of {crop} pixels, but the installed timm builds it for {crop_here}; "
            "install the version of timm that saved it"
        )
    network.reset_classifier(0)
    return network


def transform_of(name: str, configuration: dict[str, Any]) -> Transform:
    """Return the evaluation transform of a timm configuration, as timm's create_transform builds it.

    Raises ModelError for one that `Transform` does not cover. timm's own needs torch, which a served model lacks.
    """
    from timm.data import resolve_data_config

    data = resolve_data_config(pretrained_cfg=configuration)
    channels, height, width = data["input_size"]
    if channels != 3 or data["crop_mode"] not in FITS or data["interpolation"] not in INTERPOLATIONS:
        raise ModelError(
            f"encode.backbone: {name} needs the preprocessing {data}, which is not supported; choose another"
        )
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
    """Raise ModelError for a network that without its head does not give one row of features for a picture."""
    with torch.device("meta"), torch.inference_mode():  # shapes only, and before anything is downloaded
        network = _network(name).eval()
        if not hasattr(network, "reset_classifier"):
            raise ModelError(f"encode.backbone: {name} is not a classification network: it has no head to remove")
        network.reset_classifier(0)
        features = network(torch.empty(1, 3, *transform_of(name, network.pretrained_cfg).size))
    if features.ndim != 2 or features.shape[1] not in (network.num_features, network.head_hidden_size):
        raise ModelError(
            f"encode.backbone: {name} gives {tuple(features.shape)} for a picture, expected a row of features; "
            "choose another backbone"
        )


def _published(name: str, configuration: dict[str, Any]) -> Path:
    if repository := configuration.get("hf_hub_id"):
        return downloads.from_hub(repository)
    if url := configuration.get("url"):
        return downloads.from_url(url)
    raise ModelError(f"encode.weights: no weights are published for {name}; expected none or the path of a file")


def _load_converted(name: str, path: Path, mismatch: ModelError) -> nn.Module:
    """Return the network with weights that timm converts from their authors' format; raises `mismatch` if it cannot.

    timm may leave weights that are missing from the file at random values: then two seeds give two networks.
    """
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        try:
            network = _network(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})
        except Exception:  # converting another network's file may raise anything
            raise mismatch from None
        network.reset_classifier(0)
        networks.append(network)
    first, second = (network.state_dict() for network in networks)
    if any(not torch.equal(value, second[key]) for key, value in first.items()):
        raise mismatch
    return networks[0]
