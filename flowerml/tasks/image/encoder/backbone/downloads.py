"""Published weights, fetched once into the caches that torch's and timm's users know."""

import re
from pathlib import Path

import torch

from flowerml.core.errors import DownloadError
from flowerml.data import download
from flowerml.tasks.image.encoder.backbone.embedded import EMBEDDED

INSTEAD = f"set encode.weights to its path, or encode.backbone to {EMBEDDED}, whose weights are installed"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def from_url(url: str) -> Path:
    """The file at `url`, from torch's cache (TORCH_HOME) or fetched into it; raises DownloadError.

    The digits in its name are those of its SHA-256, as in all that torch's own loading knows.
    """
    name = url.rpartition("/")[2]
    target = Path(torch.hub.get_dir(), "checkpoints", name)
    digits = re.search(r"-([0-9a-f]{8,})\.", name)
    if digits or not target.is_file():
        checksum = f"sha256:{digits[1]}" if digits else None
        download.download(url, target, checksum=checksum, alternative=f"or {INSTEAD}")
    return target


def from_hub(repository: str) -> Path:
    """The weights of a repository (`owner/name`, perhaps `@revision`) of the Hugging Face Hub, or from its cache.

    HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they always do. Raises DownloadError.
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
        f"{name} on the Hugging Face Hub has neither {' nor '.join(HUB_FILES)}; get a file by hand and {INSTEAD}"
    )


def _hub_file(repository: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    url = hf_hub_url(repository, file, revision=revision)
    try:
        get_hf_file_metadata(url)  # fails in 10 seconds, where a download keeps trying for minutes
        return Path(hf_hub_download(repository, file, revision=revision))
    except RemoteEntryNotFoundError:
        raise
    except Exception as error:  # the Hub's, its HTTP client's and its transfer library's have no common parent
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DownloadError(f"{url}: {reason}; get it by hand and {INSTEAD}") from None
