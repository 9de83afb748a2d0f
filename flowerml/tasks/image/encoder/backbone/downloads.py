"""Published weights, downloaded once into the caches that torch and the Hugging Face Hub share with other programs."""

import re
from pathlib import Path

import torch

from flowerml.core.errors import DownloadError
from flowerml.data import download
from flowerml.tasks.image.encoder.backbone.embedded import EMBEDDED

ALTERNATIVE = f"set encode.weights to its path, or encode.backbone to {EMBEDDED}, whose weights are installed"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def from_url(url: str) -> Path:
    """Return the file at `url` from torch's cache (TORCH_HOME), downloading it if needed; raises DownloadError.

    As in torch.hub, hexadecimal digits at the end of the file's name are the start of its SHA-256. Unlike torch.hub,
    a download that was interrupted is resumed.
    """
    name = url.rpartition("/")[2]
    target = Path(torch.hub.get_dir(), "checkpoints", name)
    digits = re.search(r"-([0-9a-f]{8,})\.", name)
    if digits or not target.is_file():
        checksum = f"sha256:{digits[1]}" if digits else None
        download.download(url, target, checksum=checksum, alternative=f"or {ALTERNATIVE}")
    return target


def from_hub(repository: str) -> Path:
    """Return the weights of a Hugging Face Hub repository, `owner/name` or `owner/name@revision`.

    They come from the Hub's cache, or are downloaded into it; HF_HOME, HF_ENDPOINT, HF_TOKEN and
    HF_HUB_OFFLINE have their usual meaning. Raises DownloadError.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError

    name, _, revision = repository.partition("@")
    for file in HUB_FILES:
        cached = try_to_load_from_cache(name, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    for file in HUB_FILES:
        try:
            return _hub_file(name, file, revision or None)
        except RemoteEntryNotFoundError:
            continue
    raise DownloadError(
        f"{name} on the Hugging Face Hub has neither {' nor '.join(HUB_FILES)}; "
        f"download a file by hand and {ALTERNATIVE}"
    )


def _hub_file(repository: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    url = hf_hub_url(repository, file, revision=revision)
    try:
        get_hf_file_metadata(url)  # without a network it fails within 10 seconds; a download retries for minutes
        return Path(hf_hub_download(repository, file, revision=revision))
    except RemoteEntryNotFoundError:
        raise
    except Exception as error:  # errors of the Hub, its HTTP client and its transfer library share no base class
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DownloadError(f"{url}: {reason}; download it by hand and {ALTERNATIVE}") from None
