"""Checksums of files."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from flowerml.data.download.remote import Refusal

FORM = re.compile(r"(md5):([0-9a-f]{32})|(sha256):([0-9a-f]{8,64})")


@dataclass(frozen=True)
class Checksum:
    """The first `digits` (hexadecimal) of what `algorithm` gives for a file."""

    algorithm: str
    digits: str

    @classmethod
    def parse(cls, text: str) -> "Checksum":
        """Read md5:… or sha256:…; raises Refusal."""
        match = FORM.fullmatch(text.strip().lower())
        if match is None:
            raise Refusal(f"checksum: expected md5: and 32, or sha256: and 8 to 64 hexadecimal digits, found {text!r}")
        return cls(match[1] or match[3], match[2] or match[4])

    def found(self, path: Path) -> str:
        """As many digits as expected of the file at `path`, in constant memory."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.new(self.algorithm, usedforsecurity=False))
        return digest.hexdigest()[: len(self.digits)]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digits}"
