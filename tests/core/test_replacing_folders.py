"""A folder is replaced in one step, readers see one version of it, and a kill or a failure loses none."""

import ctypes
import errno
import os
import signal
import threading
from pathlib import Path

import pytest

from flowerml.core import exchange, files
from flowerml.core.errors import FlowermlError


@pytest.fixture(params=["swaps", "refuses"])
def system(request, monkeypatch) -> str:
    """Return whether the file system swaps folders, or refuses as NFS does."""
    if request.param == "refuses":

        def refuse(*_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

        monkeypatch.setattr(exchange, "_renameat2", lambda: refuse)
    return str(request.param)


def save(folder: Path, content: str) -> None:
    """Save a folder with two files."""
    with files.replacing(folder) as temporary:
        temporary.mkdir()
        (temporary / "a").write_text(content)
        (temporary / "b").write_text(content)


def contents(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.iterdir()}


def in_fork(function) -> int:
    """Call a function in a forked process; return how that ended."""
    process = os.fork()
    if process == 0:
        try:
            function()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_at_rename(number: int, folder: Path) -> None:
    """Replace a folder and be killed before the rename or swap of this number."""
    count = iter(range(100))

    def dying(function):
        def wrapped(*arguments):
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return wrapped

    os.rename = dying(os.rename)
    swap = exchange._renameat2()
    if os.path.lexists(folder):
        exchange._renameat2 = lambda: dying(swap)
    save(folder, "new")


def test_linux_swaps_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a/b").exists() and (tmp_path / "b/a").exists()


def test_missing_path_cannot_be_swapped(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(FileNotFoundError):
        exchange.exchange(tmp_path / "a", tmp_path / "b")


def test_folder_is_replaced(tmp_path, system):
    save(tmp_path / "folder", "old")
    save(tmp_path / "folder", "new")
    assert contents(tmp_path / "folder") == {"new"} and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("number", range(3))
def test_kill_keeps_a_version(tmp_path, system, number):
    save(tmp_path / "folder", "old")
    ended = in_fork(lambda: kill_at_rename(number, tmp_path / "folder"))
    last = {"swaps": 0, "refuses": 2}[system]
    assert ended == (-signal.SIGKILL if number <= last else 0)
    versions = files.read_version(tmp_path / "folder", lambda: contents(tmp_path / "folder"))
    assert versions == ({"old"} if number <= last else {"new"})
    with pytest.raises(KeyError), files.replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        raise KeyError
    assert contents(tmp_path / "folder") == versions
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_next_write_recovers_former_version(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "_renameat2", lambda: None)
    save(tmp_path / "folder", "old")
    (tmp_path / "folder").rename(
        tmp_path / f".folder.{os.getpid()}.7000.former.tmp"
    )  # by an earlier process of this id
    with pytest.raises(KeyError), files.replacing(tmp_path / "folder"):
        raise KeyError
    assert contents(tmp_path / "folder") == {"old"}


def test_failed_recovery_keeps_former_version(tmp_path, monkeypatch):
    former = tmp_path / f".folder.{os.getpid()}.7000.former.tmp"
    save(former, "old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError), files.replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
    assert contents(former) == {"old"}


def test_leftovers_under_own_id_are_removed(tmp_path):
    (tmp_path / f".folder.{os.getpid()}.7000.tmp").mkdir()
    save(tmp_path / "folder", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_live_writer_may_finish(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOVING", 10.0)
    former = tmp_path / f".folder.{os.getppid()}.1.former.tmp"
    save(former, "old")
    save(tmp_path / "other", "new")
    threading.Timer(0.1, (tmp_path / "other").rename, [tmp_path / "folder"]).start()
    files.recover(tmp_path / "folder")
    assert contents(tmp_path / "folder") == {"new"} and former.exists()


def test_suspended_writer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOVING", 0.05)
    save(tmp_path / f".folder.{os.getppid()}.1.former.tmp", "old")
    assert files.read_version(tmp_path / "folder", lambda: contents(tmp_path / "folder")) == {"old"}


def test_readers_see_one_version(tmp_path, system):
    folder, versions = tmp_path / "folder", 150
    save(folder, "0")
    process = os.fork()
    if process == 0:
        for number in range(1, versions):
            save(folder, str(number))
        os._exit(0)
    seen: list[set[str]] = []
    while os.waitpid(process, os.WNOHANG)[0] == 0:
        seen.append(files.read_version(folder, lambda: contents(folder)))
    assert len(seen) > versions and {len(version) for version in seen} == {1}


def test_replaced_while_read_is_read_again(tmp_path):
    folder = tmp_path / "folder"
    save(folder, "old")
    reads: list[str] = []

    def read() -> set[str]:
        reads.append((folder / "a").read_text())
        if len(reads) == 1:
            save(folder, "new")
            raise OSError("as if a file were missing")
        return contents(folder)

    assert files.read_version(folder, read) == {"new"} and reads == ["old", "new"]


def test_error_of_an_unchanged_folder_is_raised(tmp_path):
    save(tmp_path / "folder", "old")
    with pytest.raises(FileNotFoundError, match="missing"):
        files.read_version(tmp_path / "folder", (tmp_path / "folder/missing").read_text)


def test_endless_replacing_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RACES", 3)
    save(tmp_path / "folder", "old")
    with pytest.raises(FlowermlError, match=r"folder: was replaced 3 times while it was read; re-run the command"):
        files.read_version(tmp_path / "folder", lambda: save(tmp_path / "folder", "new"))


@pytest.mark.parametrize("kind", ["nothing", "file", "fifo", "dangling"])
def test_what_is_no_folder_is_left_to_the_reader(tmp_path, kind):
    path = tmp_path / "folder"
    if kind == "file":
        path.touch()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "missing")
    assert files.read_version(path, lambda: "read") == "read"


def test_threads_do_not_remove_each_others_files(tmp_path):
    with files.replacing(tmp_path / "folder") as first:
        first.mkdir()
        save(tmp_path / "folder", "second")
        assert first.exists()
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
@pytest.mark.parametrize("inside", [False, True])
def test_private_files_get_the_umask(tmp_path, umask, mode, inside):
    before = os.umask(umask)
    try:
        with files.replacing(tmp_path / "target") as temporary:
            if inside:
                temporary.mkdir()
            path = temporary / "weights" if inside else temporary
            path.touch(mode=0o600)
            path.chmod(0o600)
    finally:
        os.umask(before)
    path = tmp_path / "target/weights" if inside else tmp_path / "target"
    assert path.stat().st_mode & 0o777 == mode
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
