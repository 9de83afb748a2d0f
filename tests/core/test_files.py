"""Files are replaced atomically, and the leftovers of killed processes are removed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowerml.core import files


def test_leftovers_of_a_zombie_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    while os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT) is None:
        time.sleep(0.01)
    (tmp_path / f".target.json.{ended.pid}.tmp").write_text("half")
    files.write_json(tmp_path / "target.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["target.json"]
    ended.wait()


def test_files_of_a_live_process_stay(tmp_path):
    working = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / f".target.json.{working.pid}.tmp").write_text("half")
    files.write_json(tmp_path / "target.json", 1)
    assert len(list(tmp_path.iterdir())) == 2
    working.communicate(b"\n")


def make(path: Path, kind: str, content: str) -> None:
    if kind == "folder":
        path.mkdir()
        (path / "a").write_text(content)
    elif kind == "file":
        path.write_text(content)


def read(path: Path) -> str:
    return (path / "a" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("before", ["nothing", "file", "folder"])
@pytest.mark.parametrize("now", ["file", "folder"])
def test_replacing(tmp_path, before, now):
    make(tmp_path / "target", before, "old")
    with files.replacing(tmp_path / "target") as temporary:
        make(temporary, now, "new")
    assert read(tmp_path / "target") == "new"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", ["nothing", "file", "folder"])
@pytest.mark.parametrize("now", ["file", "folder"])
def test_replacing_a_link(tmp_path, kind, now):
    make(tmp_path / "kept", kind, "old")
    (tmp_path / "target").symlink_to(tmp_path / "kept")
    with files.replacing(tmp_path / "target") as temporary:
        make(temporary, now, "new")
    assert read(tmp_path / "target") == "new" and not (tmp_path / "target").is_symlink()
    assert kind == "nothing" or read(tmp_path / "kept") == "old"


@pytest.mark.parametrize("now", ["file", "folder"])
def test_failed_replacing_keeps_the_old(tmp_path, now):
    make(tmp_path / "target", "folder", "old")
    with pytest.raises(KeyError), files.replacing(tmp_path / "target") as temporary:
        make(temporary, now, "new")
        raise KeyError
    assert read(tmp_path / "target") == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_replacing_makes_parent_folders(tmp_path):
    files.write_json(tmp_path / "a" / "b.json", {"Blüte": [1, None]})
    assert files.read_json(tmp_path / "a" / "b.json") == {"Blüte": [1, None]}
    assert "Blüte" in (tmp_path / "a" / "b.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_remove_does_not_follow_links(tmp_path, kind):
    make(tmp_path / "kept", kind, "old")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    files.remove(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] * (kind != "nothing")
