import hashlib
import resource
import threading
from pathlib import Path

import pytest

from flowerml.core.errors import DownloadError
from tests.support.downloading import CONTENT, NAME, PAGE, SHA256, fetch, fetched, refused
from tests.support.file_server import LAST_MODIFIED, Response, serving


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "kept" / NAME


@pytest.mark.parametrize("checksum", [SHA256, SHA256[:15].upper(), f"md5:{hashlib.md5(CONTENT).hexdigest()}"])
def test_checksum_after_resuming(target, checksum):
    assert fetched(target, Response(cut=100_000), Response(), checksum=checksum) == [None, 100_000]


def test_corrupt_file_is_downloaded_again(target, capsys):
    assert fetched(target, Response(corrupt=True), Response(), checksum=SHA256) == [None, None]
    assert "downloading it again from the beginning" in capsys.readouterr().err


def test_corrupt_twice_is_refused(target):
    message, requests = refused(target, Response(corrupt=True), checksum=SHA256[:15])
    assert f"expected {SHA256[:15]}, found " in message and requests == 2
    assert [path.name for path in target.parent.iterdir()] == [f"{NAME}.lock"]


@pytest.mark.parametrize("checksum", ["sha256:12", "md5:1234", "sha1:12345678", "12345678", "sha256:xyzxyzxy"])
def test_invalid_checksum_is_refused(target, checksum):
    with pytest.raises(DownloadError, match="checksum: expected md5: and 32, or sha256: and 8 to 64"):
        fetch("https://host/a", target, checksum=checksum)


def test_manual_copy_is_used(target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    fetch("http://nowhere.invalid/a", target)
    assert target.read_bytes() == b"mine"


def test_manual_copy_is_verified(target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    fetch("http://nowhere.invalid/a", target, checksum=SHA256)
    target.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=f"^{target}: expected {SHA256}, found .*; remove it"):
        fetch("http://nowhere.invalid/a", target, checksum=SHA256)
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize("headers", [{}, {"ETag": None}, {"ETag": 'W/"1"'}])
@pytest.mark.parametrize("chunked", [False, True])
def test_unchanged_file_is_kept(target, headers, chunked):
    with serving({NAME: CONTENT}, {NAME: [Response(headers=headers, chunked=chunked)]}) as server:
        fetch(server.url(NAME), target)
        before = target.stat().st_ino
        fetch(server.url(NAME), target)
    asked = server.requests[1].headers
    assert "If-None-Match" in asked or asked["If-Modified-Since"] == LAST_MODIFIED
    assert target.stat().st_ino == before and len(server.requests) == 2


def test_unchanged_without_tags(target):
    with serving({NAME: CONTENT}, {NAME: [Response(tags=False)]}) as server:
        fetch(server.url(NAME), target)
        before = target.stat().st_ino
        fetch(server.url(NAME), target)
    assert target.stat().st_ino == before


def test_changed_file_is_replaced(target):
    with serving({NAME: CONTENT}) as server:
        fetch(server.url(NAME), target)
        server.files[NAME] = b"new"
        fetch(server.url(NAME), target)
        fetch(server.url(NAME), target)
    assert target.read_bytes() == b"new" and len(server.requests) == 4


def test_failed_update_keeps_the_file(target):
    with serving({NAME: CONTENT}) as server:
        fetch(server.url(NAME), target)
        server.files[NAME] = b"new"
        server.responses[NAME] = [Response(), Response(cut=1)]
        with pytest.raises(DownloadError):
            fetch(server.url(NAME), target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "response",
    [
        Response(500),
        Response(404),
        Response(body=PAGE, headers={"Content-Type": "text/html"}),
        Response(chunked=True, tags=False),
    ],
)
def test_file_is_kept_when_unclear(target, response, capsys):
    with serving({NAME: CONTENT}, {NAME: [Response(tags=False), response]}) as server:
        fetch(server.url(NAME), target)
        fetch(server.url(NAME), target)
    assert target.read_bytes() == CONTENT
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"{target}: kept; whether {server.url(NAME)} has changed is unknown (")


def test_file_is_kept_when_unreachable(target, capsys):
    with serving({NAME: CONTENT}) as server:
        fetch(server.url(NAME), target)
        server.stop()
        fetch(server.url(NAME), target)
    assert target.read_bytes() == CONTENT and "(the connection failed: Connection refused)" in capsys.readouterr().err


def test_replaced_download_is_used(target):
    with serving({NAME: CONTENT}) as server:
        fetch(server.url(NAME), target)
        target.write_bytes(b"mine")
        fetch(server.url(NAME), target)
    assert target.read_bytes() == b"mine" and len(server.requests) == 1


def test_tags_belong_to_their_server(target):
    with serving({NAME: CONTENT}) as server, serving({NAME: CONTENT}) as mirror:
        fetch(server.url(NAME), target)
        fetch(mirror.url(NAME), target)
        mirror.files[NAME] = b"new"
        fetch(mirror.url(NAME), target)
    assert target.read_bytes() == b"new"
    assert "If-Modified-Since" not in mirror.requests[0].headers


def test_concurrent_downloads_are_locked(target, capsys):
    with serving({NAME: CONTENT}, {NAME: [Response(pace=0.02, piece=20_000)]}) as server:
        threads = [threading.Thread(target=fetch, args=(server.url(NAME), target)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert target.read_bytes() == CONTENT and len(server.requests) == 1
    assert f"{NAME}: another process is downloading it; waiting" in capsys.readouterr().err


def test_file_larger_than_the_disk(target):
    message, _ = refused(target, Response(lie=10**16))
    assert f"{target.parent}: 10000000.00 GB more are needed, and " in message


def test_full_disk_keeps_the_part(target):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving({NAME: CONTENT}) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(DownloadError, match=f"{target.parent}: cannot be written to \\(File too large"):
                fetch(server.url(NAME), target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        fetch(server.url(NAME), target, checksum=SHA256)
    assert server.requests[1].start == 100_000


def test_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "kept").touch()
    with pytest.raises(DownloadError, match=f"{tmp_path}/kept/a: cannot be written to \\(Not a directory"):
        fetch("http://nowhere.invalid/a", tmp_path / "kept" / "a" / NAME)


def test_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(DownloadError, match=r"expected a file at .*, found a folder"):
        fetch("http://nowhere.invalid/a", tmp_path)
