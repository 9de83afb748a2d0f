"""The pictures that were uploaded to the page, kept in memory, so that no request names a file of this machine."""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from flowerml.core.errors import FlowermlError

MAX_BYTES = 256 * 2**20
MAX_PER_SESSION = 8  # tabs of one browser; each asks once about its newest picture
MAX_SECONDS = 600.0


@dataclass(frozen=True)
class Upload:
    """A picture and who uploaded it: a browser's session, or nobody for a sample, which everybody may see."""

    raw: bytes
    session: str | None
    time: float


@dataclass
class Uploads:
    """Keeps the newest uploads under random keys, and returns each one only to the session that uploaded it.

    The event loop adds, threads read. Bounded in bytes, in number for each session, and in time.
    """

    max_bytes: int = MAX_BYTES
    max_per_session: int = MAX_PER_SESSION
    max_seconds: float = MAX_SECONDS
    _samples: dict[str, bytes] = field(default_factory=dict)
    _uploads: OrderedDict[str, Upload] = field(default_factory=OrderedDict)

    def add_sample(self, raw: bytes) -> str:
        """Keep a picture that the page offers to everybody, and return its key."""
        key = f"sample-{len(self._samples) + 1}"
        self._samples[key] = raw
        return key

    def add(self, raw: bytes, session: str) -> str:
        """Keep an upload and return its key; the oldest uploads make room."""
        self.forget_old()
        own = [key for key, upload in self._uploads.items() if upload.session == session]
        for key in own[: max(0, len(own) + 1 - self.max_per_session)]:
            del self._uploads[key]
        while self._uploads and self.size + len(raw) > self.max_bytes:
            self._uploads.popitem(last=False)
        key = secrets.token_urlsafe(16)
        self._uploads[key] = Upload(raw, session, time.monotonic())
        return key

    def read(self, key: str, session: str | None) -> bytes:
        """Return a sample, or an upload of this session; raises FlowermlError for any other key."""
        if key in self._samples:
            return self._samples[key]
        upload = self._uploads.get(key)
        if upload is None or session is None or upload.session != session:
            raise FlowermlError("this picture was not uploaded here, or too long ago; upload it again")
        return upload.raw

    def forget_old(self) -> None:
        """Delete what is older than `max_seconds`."""
        oldest = time.monotonic() - self.max_seconds
        while self._uploads and next(iter(self._uploads.values())).time < oldest:
            self._uploads.popitem(last=False)

    @property
    def size(self) -> int:
        """The number of bytes kept, without the samples."""
        return sum(len(upload.raw) for upload in self._uploads.values())
