"""Folders that go in circles, are deep, may not be read, or change under the reader."""

import os
import subprocess
from pathlib import Path

import pytest

from flowerml.core.errors import DataError
from flowerml.data.archives import ArchiveLimits, members
from flowerml.data.layout import read_files


def test_links_that_go_in_circles_pipes_and_sockets_in_a_folder_are_flagged(tmp_path):
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    os.mkfifo(tmp_path / "pipe")
    assert {member.name: member.problem for member in members(tmp_path)} == {
        "again": "a link to a folder is not followed: put the folder itself there",
        "pipe": "not a regular file",
        "self": "a link that leads nowhere, or gone (Too many levels of symbolic links)",
    }


def test_a_folder_may_be_deep(tmp_path):
    subprocess.run(["mkdir", "-p", "x/" * 1200], cwd=tmp_path, check=True)
    (tmp_path / ("x/" * 1200 + "1.jpg")).touch()
    assert [member.name for member in members(tmp_path)] == ["x/" * 1200 + "1.jpg"]
    # What clears the folders of old tests away would give up here.
    subprocess.run(["rm", "-rf", "x"], cwd=tmp_path, check=True)


def test_what_one_may_not_read_is_told_in_one_line(tmp_path):
    (tmp_path / "rose").mkdir()
    tmp_path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); give yourself access to it$"):
            list(members(tmp_path))
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)


def test_a_file_that_fails_while_it_is_read_is_told_in_one_line(tmp_path):
    (tmp_path / "1.jpg").symlink_to("/proc/self/mem")  # nothing is mapped at its beginning
    (member,) = members(tmp_path)
    with pytest.raises(DataError, match=r"1\.jpg: cannot be read \(Input/output error\); see to it, and run again$"):
        member.read()


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"more")])
def test_a_file_that_changes_between_listing_and_reading_is_told(tmp_path, change):
    (tmp_path / "1.jpg").write_bytes(b"one")
    member = next(members(tmp_path))
    change(tmp_path / "1.jpg")
    with pytest.raises(DataError, match=r"1\.jpg: (cannot be read \(No such file|has changed while it was read)"):
        member.read()


def test_a_wanted_file_that_is_gone_is_told(pack):
    source = pack({"rose/1.jpg": b"one"}, "folder")
    with pytest.raises(DataError, match=r"rose/2\.jpg and 1 more are not there any more; run again when the source is"):
        list(read_files(source, wanted={"rose/1.jpg", "rose/2.jpg", "rose/3.jpg"}, limits=ArchiveLimits()))
