"""Folders with cycles, deep ones, unreadable ones, and ones that change while they are read."""

import os
import subprocess
from pathlib import Path

import pytest

from flowerml.core.errors import DataError
from flowerml.data.archives import ArchiveLimits, members
from flowerml.data.layout import read_files


def test_links_and_pipes_are_flagged(tmp_path):
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    os.mkfifo(tmp_path / "pipe")
    assert {member.name: member.problem for member in members(tmp_path)} == {
        "again": "a link to a folder that it is in itself: remove it",
        "pipe": "not a regular file",
        "self": "a broken link, or deleted meanwhile (Too many levels of symbolic links)",
    }


def names_and_problems(folder):
    return {member.name: member.problem for member in members(folder)}


def test_link_inside_the_source_is_followed(tmp_path):
    (tmp_path / "pool" / "rose").mkdir(parents=True)
    (tmp_path / "pool" / "rose" / "1.jpg").write_bytes(b"one")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "rose").symlink_to("../pool/rose")
    assert names_and_problems(tmp_path) == {"pool/rose/1.jpg": None, "train/rose/1.jpg": None}
    assert dict(read_files(tmp_path, wanted={"train/rose/1.jpg"})) == {"train/rose/1.jpg": b"one"}


def test_circles_of_links_end(tmp_path):
    for name, target in {"a": "b", "b": "a"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").touch()
        (tmp_path / name / "link").symlink_to(f"../{target}")
    circle = "a link to a folder that it is in itself: remove it"
    assert names_and_problems(tmp_path) == {
        "a/1.jpg": None,
        "a/link/1.jpg": None,
        "a/link/link": circle,
        "b/1.jpg": None,
        "b/link/1.jpg": None,
        "b/link/link": circle,
    }


def test_link_by_a_similar_name_leads_out(tmp_path):
    for name in ("source", "source2"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "rose").symlink_to("../source2")
    problem = f"a link to a folder outside the source, {tmp_path / 'source2'}: copy or move that folder here"
    assert names_and_problems(tmp_path / "source") == {"rose": problem}


def test_deep_folder(tmp_path):
    subprocess.run(["mkdir", "-p", "x/" * 1200], cwd=tmp_path, check=True)
    (tmp_path / ("x/" * 1200 + "1.jpg")).touch()
    assert [member.name for member in members(tmp_path)] == ["x/" * 1200 + "1.jpg"]
    # pytest's removal of old folders would give up here.
    subprocess.run(["rm", "-rf", "x"], cwd=tmp_path, check=True)


def test_unreadable_folder(tmp_path):
    (tmp_path / "rose").mkdir()
    tmp_path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); check its permissions$"):
            list(members(tmp_path))
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)


def test_file_that_fails_while_read(tmp_path):
    (tmp_path / "1.jpg").symlink_to("/proc/self/mem")  # nothing is mapped at its beginning
    (member,) = members(tmp_path)
    with pytest.raises(
        DataError, match=r"1\.jpg: cannot be read \(Input/output error\); check the file, then re-run the command$"
    ):
        member.read()


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"more")])
def test_file_changed_after_listing(tmp_path, change):
    (tmp_path / "1.jpg").write_bytes(b"one")
    member = next(members(tmp_path))
    change(tmp_path / "1.jpg")
    with pytest.raises(DataError, match=r"1\.jpg: (cannot be read \(No such file|changed while it was read)"):
        member.read()


def test_wanted_file_is_gone(pack):
    source = pack({"rose/1.jpg": b"one"}, "folder")
    with pytest.raises(DataError, match=r"rose/2\.jpg and 1 more are missing; re-run the command when the source"):
        list(read_files(source, wanted={"rose/1.jpg", "rose/2.jpg", "rose/3.jpg"}, limits=ArchiveLimits()))
