"""Downloading one file from a server that misbehaves."""

import hashlib
from pathlib import Path

import pytest

from flowerml.core.errors import DownloadError
from flowerml.data.download import download
from tests.support.file_server import Answer, Server, serving

CONTENT = bytes(range(256)) * 1000
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
NAME = "a.bin"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in &middot;\n Lab</title></head></html>"


def fetch(url: str, target: Path, **settings) -> None:
    """`download` by one who is in a hurry, though on a machine that may be busy."""
    download(url, target, **{"attempts": 3, "timeout": 10.0, "pause": 0.01, **settings})


def fetched(target: Path, *answers: Answer, content: bytes = CONTENT, **settings) -> list[int | None]:
    """Download from a server that answers so; gives the first byte of each request."""
    with serving({NAME: content}, {NAME: list(answers) or [Answer()]}) as server:
        fetch(server.url(NAME), target, **settings)
    assert target.read_bytes() == content
    assert sorted(path.name for path in target.parent.iterdir()) == [NAME, f"{NAME}.json", f"{NAME}.lock"]
    return [request.start for request in server.requests]


def refused(target: Path, *answers: Answer, **settings) -> tuple[str, int]:
    """Fail to download from a server that answers so; gives the error and the number of requests."""
    with serving({NAME: CONTENT}, {NAME: list(answers)}) as server, pytest.raises(DownloadError) as raised:
        fetch(server.url(NAME), target, **settings)
    assert not target.exists()
    assert "\n" not in str(raised.value)
    return str(raised.value), len(server.requests)


def begin(server: Server, target: Path, cut: int = 100_000) -> None:
    """Leave the first `cut` bytes in the part; the server is well from then on."""
    server.answers[NAME] = [Answer(cut=cut), Answer()]
    with pytest.raises(DownloadError):
        fetch(server.url(NAME), target, attempts=1)
    assert target.with_name(f"{NAME}.part").stat().st_size == cut
    server.requests.clear()
