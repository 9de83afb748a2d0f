"""Downloads of one file from a misbehaving server."""

import hashlib
from pathlib import Path

import pytest

from flowerml.core.errors import DownloadError
from flowerml.data.download import download
from tests.support.file_server import Response, Server, serving

CONTENT = bytes(range(256)) * 1000
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
NAME = "a.bin"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in &middot;\n Lab</title></head></html>"


def fetch(url: str, target: Path, **settings) -> None:
    """Call `download` with few attempts and short pauses; the timeout suits a busy machine."""
    download(url, target, **{"attempts": 3, "timeout": 10.0, "pause": 0.01, **settings})


def fetched(target: Path, *responses: Response, content: bytes = CONTENT, **settings) -> list[int | None]:
    """Download from a server with these responses; return the first byte of each request."""
    with serving({NAME: content}, {NAME: list(responses) or [Response()]}) as server:
        fetch(server.url(NAME), target, **settings)
    assert target.read_bytes() == content
    assert sorted(path.name for path in target.parent.iterdir()) == [NAME, f"{NAME}.json", f"{NAME}.lock"]
    return [request.start for request in server.requests]


def refused(target: Path, *responses: Response, **settings) -> tuple[str, int]:
    """Fail to download from a server with these responses; return the error and the number of requests."""
    with serving({NAME: CONTENT}, {NAME: list(responses)}) as server, pytest.raises(DownloadError) as raised:
        fetch(server.url(NAME), target, **settings)
    assert not target.exists()
    assert "\n" not in str(raised.value)
    return str(raised.value), len(server.requests)


def begin(server: Server, target: Path, cut: int = 100_000) -> None:
    """Leave the first `cut` bytes in the .part file; later requests succeed."""
    server.responses[NAME] = [Response(cut=cut), Response()]
    with pytest.raises(DownloadError):
        fetch(server.url(NAME), target, attempts=1)
    assert target.with_name(f"{NAME}.part").stat().st_size == cut
    server.requests.clear()
