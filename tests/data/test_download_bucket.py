import io
from pathlib import Path

import fsspec
import pytest

from flowerml.core.errors import DownloadError
from flowerml.data.download import bucket_folder
from tests.support.downloading import CONTENT, NAME, SHA256, fetch


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "kept" / NAME


class Bucket(fsspec.AbstractFileSystem):
    """A bucket of one file that caches its listing, as the real ones do.

    The next reader fails after as many bytes as `breaks` says. The file changes to the next of `contents` when a reader
    is opened.
    """

    protocol = "bucket"
    contents: list[bytes]
    breaks: list[tuple[int, Exception]]
    starts: list[int]

    def info(self, path: str, **settings) -> dict:
        if path.endswith("folder"):
            return {"name": path, "type": "directory", "size": 0}
        if not path.endswith(NAME):
            raise FileNotFoundError(path)
        content = self.contents[0]
        return self.dircache.setdefault(path, {"type": "file", "size": len(content), "tag": hash(content)})

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()

    def _open(self, path: str, mode: str = "rb", **settings) -> io.BytesIO:
        reader = Reader(self.contents[0])
        reader.starts, reader.breaks = self.starts, self.breaks.pop(0) if self.breaks else None
        if len(self.contents) > 1:
            self.contents.pop(0)
        return reader


class Reader(io.BytesIO):
    """An open file of the bucket, read in small pieces."""

    def seek(self, start: int, whence: int = 0) -> int:
        self.starts.append(start)
        return super().seek(start, whence)

    def read(self, size: int | None = -1) -> bytes:
        if self.breaks and self.tell() >= self.breaks[0]:
            raise self.breaks[1]
        return super().read(50_000)


@pytest.fixture
def bucket() -> type[Bucket]:
    """Register a new bucket for each test."""
    own = type("Own", (Bucket,), {"contents": [CONTENT], "breaks": [], "starts": []})
    fsspec.register_implementation("bucket", own, clobber=True)
    return own


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError(), RuntimeError("of the backend")])
def test_bucket_is_resumed(bucket, target, error):
    bucket.breaks = [(100_000, error)]
    fetch(f"bucket://b/{NAME}", target, checksum=SHA256)
    assert bucket.starts == [0, 100_000] and target.read_bytes() == CONTENT


def test_changed_bucket_file_restarts(bucket, target):
    bucket.breaks = [(100_000, ConnectionResetError())]
    with pytest.raises(DownloadError, match="ConnectionResetError"):
        fetch(f"bucket://b/{NAME}", target, attempts=1)
    bucket.contents[0] = CONTENT[::-1]
    fetch(f"bucket://b/{NAME}", target)
    assert bucket.starts == [0, 0] and target.read_bytes() == CONTENT[::-1]


def test_bucket_file_changed_while_read(bucket, target):
    bucket.contents.append(CONTENT[::-1])
    fetch(f"bucket://b/{NAME}", target)
    assert bucket.starts == [0, 0] and target.read_bytes() == CONTENT[::-1]


def test_missing_file_in_a_bucket_is_refused(bucket, target):
    with pytest.raises(DownloadError, match="FileNotFoundError"):
        fetch("bucket://b/b.bin", target)


@pytest.fixture
def folder():
    """Return the files of a folder in memory that stands for a bucket's."""
    memory = fsspec.filesystem("memory")
    memory.pipe({"/flowers/rose/1.jpg": b"1", "/flowers/rose/2.jpg": b"22", "/flowers/tulip/1.jpg": b"333"})
    yield memory
    memory.rm("/flowers", recursive=True)


def copied(target: Path) -> dict[str, bytes]:
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def test_folder_of_a_bucket_is_copied(folder, tmp_path):
    for url in ("memory://flowers", "memory://flowers/"):
        fetch(url, tmp_path / "data" / "copy")
        assert copied(tmp_path / "data" / "copy") == {
            "rose/1.jpg": b"1",
            "rose/2.jpg": b"22",
            "tulip/1.jpg": b"333",
        }


def test_changes_of_a_folder_are_followed(folder, tmp_path):
    fetch("memory://flowers", tmp_path / "copy")
    kept = (tmp_path / "copy/rose/1.jpg").stat().st_mtime_ns
    folder.rm("/flowers/tulip/1.jpg")
    folder.pipe("/flowers/rose/2.jpg", b"new")
    (tmp_path / "copy/stray.jpg").write_bytes(b"")
    fetch("memory://flowers", tmp_path / "copy")
    assert copied(tmp_path / "copy") == {"rose/1.jpg": b"1", "rose/2.jpg": b"new"}
    assert (tmp_path / "copy/rose/1.jpg").stat().st_mtime_ns == kept


def test_names_that_lead_out_of_the_folder_are_refused(folder, tmp_path, monkeypatch):
    entries = {"/flowers/../../evil": {"name": "/flowers/../../evil", "size": 1}}
    monkeypatch.setattr(type(folder), "find", lambda *_, **__: entries)
    with pytest.raises(DownloadError, match=r"\.\./\.\./evil would be written outside the folder"):
        fetch("memory://flowers/", tmp_path / "a/b/copy")
    assert not (tmp_path / "a/evil").exists()


def test_interrupted_folder_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    read = type(folder).cat_file
    fetched = []

    def break_once(self, path, **settings):
        fetched.append(path)
        if len(fetched) == 2:
            raise ConnectionError("cut")
        return read(self, path, **settings)

    monkeypatch.setattr(type(folder), "cat_file", break_once)
    monkeypatch.setattr(bucket_folder, "THREADS", 1)
    fetch("memory://flowers/", tmp_path / "copy")
    assert len(copied(tmp_path / "copy")) == 3 and fetched.count("/flowers/rose/1.jpg") == 1


def test_failing_bucket_is_given_up(bucket, target):
    bucket.breaks = [(0, RuntimeError("no\ncredentials"))] * 9
    with pytest.raises(DownloadError, match="RuntimeError: no credentials, given up after 3 attempts in a row"):
        fetch(f"bucket://b/{NAME}", target)
    assert len(bucket.breaks) == 6


def test_changed_bucket_file_is_replaced(bucket, target, capsys):
    for content in (CONTENT, CONTENT, b"new"):
        bucket.contents[0] = content
        fetch(f"bucket://b/{NAME}", target)
        assert target.read_bytes() == content
    assert bucket.starts == [0, 0]


def test_fsspec_memory(target):
    fsspec.filesystem("memory").pipe("/b/a.bin", CONTENT)
    fetch("memory://b/a.bin", target, checksum=SHA256)
    assert target.read_bytes() == CONTENT
