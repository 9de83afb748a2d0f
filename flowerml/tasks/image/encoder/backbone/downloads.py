"""Published weights, downloaded once into the caches that torch and the Hugging Face Hub share with other programs."""

import re
from pathlib import Path

import torch

from flowerml.core.errors import DownloadError
from flowerml.data import download
from flowerml.data.download.hub import MissingFileError, Repository
from flowerml.tasks.image.encoder.backbone.embedded import EMBEDDED

ALTERNATIVE = f"set encode.weights to its path, or encode.backbone to {EMBEDDED}, whose weights are installed"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def from_url(url: str) -> Path:
    """Return the file at `url` from torch's cache (TORCH_HOME), downloading it if needed; raises DownloadError.

    As in torch.hub, hexadecimal digits at the end of the file's name are the start of its SHA-256. Unlike torch.hub,
    a download that was interrupted is resumed.
    """
    target = _place(url)
    digits = re.search(r"-([0-9a-f]{8,})\.", target.name)
    if digits or not target.is_file():
        checksum = f"sha256:{digits[1]}" if digits else None
        download.download(url, target, checksum=checksum, alternative=f"or {ALTERNATIVE}")
    return target


def cached_url(url: str) -> Path | None:
    """Return the file at `url` if it is in torch's cache."""
    return target if (target := _place(url)).is_file() else None


def _place(url: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])


def from_hub(repository: str) -> Path:
    """Return the weights of a Hugging Face Hub repository, `owner/name` or `owner/name@revision`.

    They come from the Hub's cache, or are downloaded into it. Raises DownloadError.
    """
    source = Repository.parse(repository, alternative=f"download it by hand and {ALTERNATIVE}")
    for file in HUB_FILES:
        if cached := source.cached(file):
            return cached
    for file in HUB_FILES:
        try:
            return source.file(file)
        except MissingFileError:
            continue
    raise DownloadError(
        f"{source.name} on the Hugging Face Hub has neither {' nor '.join(HUB_FILES)}; "
        f"download a file by hand and {ALTERNATIVE}"
    )
