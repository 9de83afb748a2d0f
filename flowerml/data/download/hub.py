"""Files of the Hugging Face Hub, downloaded once into the cache that other programs share.

HF_HOME, HF_ENDPOINT (a mirror), HF_TOKEN and HF_HUB_OFFLINE have their usual meaning. huggingface_hub resumes an
interrupted download and shows its progress.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flowerml.core.display import one_line
from flowerml.core.errors import DownloadError

# Read once, when huggingface_hub is imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


class MissingFileError(DownloadError):
    """The repository has no such file."""


@dataclass(frozen=True)
class Repository:
    """A repository on the Hub; `revision` is a branch, a tag or a commit, None for the default branch.

    `alternative` tells in an error what to do instead.

    >>> Repository.parse("intfloat/e5-small@v1", alternative="").revision
    'v1'
    """

    name: str
    revision: str | None
    alternative: str

    @classmethod
    def parse(cls, text: str, *, alternative: str) -> "Repository":
        """Return the repository that OWNER/NAME or OWNER/NAME@REVISION names."""
        name, _, revision = text.partition("@")
        return cls(name, revision or None, alternative)

    def file(self, name: str) -> Path:
        """Return a file from the cache, downloaded if needed. Raises MissingFileError and DownloadError."""
        return self.cached(name) or self._downloaded(name)

    def cached(self, name: str) -> Path | None:
        """Return a file if it is in the cache."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.name, name, revision=self.revision)
        return Path(path) if isinstance(path, str) else None

    def lacks(self, name: str) -> bool:
        """Return whether an earlier download found that there is no such file."""
        from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

        return try_to_load_from_cache(self.name, name, revision=self.revision) is _CACHED_NO_EXIST

    def _downloaded(self, name: str) -> Path:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import RemoteEntryNotFoundError

        try:
            url = hf_hub_url(self.name, name, revision=self.revision)
            # Where there is no such file, hf_hub_download notes it in the cache, and the Hub is not asked again.
            with suppress(RemoteEntryNotFoundError):
                # Without a network this fails within 10 seconds; a download retries for minutes.
                get_hf_file_metadata(url)
            return Path(hf_hub_download(self.name, name, revision=self.revision))
        except RemoteEntryNotFoundError:
            raise MissingFileError(f"{self.name} on the Hugging Face Hub has no {name}; {self.alternative}") from None
        except Exception as error:  # errors of the Hub, its HTTP client and its transfer library share no base class
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise DownloadError(f"{_address(self, name)}: {one_line(reason, 300)}; {self.alternative}") from None


def _address(repository: Repository, name: str) -> str:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HFValidationError

    try:
        return hf_hub_url(repository.name, name, revision=repository.revision)
    except HFValidationError:
        return f"{repository.name}/{name}"
