"""MD5 and SHA-256 checksums of files."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from flowerml.data.download.remote import PermanentError

PATTERN = re.compile(r"(md5):([0-9a-f]{32})|(sha256):([0-9a-f]{8,64})")


@dataclass(frozen=True)
class Checksum:
    """The first hexadecimal `digits` of a file's hash.

    >>> str(Checksum.parse("SHA256:0123abcd"))
    'sha256:0123abcd'
    """

    algorithm: str
    digits: str

    @classmethod
    def parse(cls, text: str) -> "Checksum":
        """Read md5:… or sha256:…; raises PermanentError."""
        match = PATTERN.fullmatch(text.strip().lower())
        if match is None:
            raise PermanentError(
                f"checksum: expected md5: and 32, or sha256: and 8 to 64 hexadecimal digits, found {text!r}"
            )
        return cls(match[1] or match[3], match[2] or match[4])

    def digits_of(self, path: Path) -> str:
        """Return as many digits of the hash of the file at `path`, in constant memory."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.new(self.algorithm, usedforsecurity=False))
        return digest.hexdigest()[: len(self.digits)]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digits}"
