import bz2
import gzip
import os
import random
import socket
import tarfile
import zipfile
from pathlib import Path

import pytest

from flowerml.core.errors import DataError
from flowerml.data.archives import ArchiveLimits, members

KINDS = ("folder", "tar", "tar.gz", "tar.bz2", "tar.xz", "zip")
FILES = {"lily/1.jpg": b"one", "rose/2.jpg": b"two", "rose/in/3.jpg": b"three"}


def contents(path) -> dict[str, bytes]:
    return {member.name: member.read() for member in members(path)}


def problems(path) -> dict[str, str | None]:
    return {member.name: member.problem for member in members(path)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same(pack, kind):
    path = pack(FILES, kind)
    assert contents(path) == FILES
    assert set(problems(path).values()) == {None}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_kind_is_read_from_the_content(pack, kind):
    path = pack(FILES, kind)
    assert contents(path.rename(path.with_name("archive"))) == FILES


def test_order_of_members(pack):
    files = dict(reversed(FILES.items()))
    assert list(contents(pack(files, "tar"))) == list(files)
    assert list(contents(pack(files, "folder"))) == sorted(files)


def test_zip_inside_a_tar(pack):
    inner = pack(FILES, "zip").read_bytes()
    assert contents(pack({"rose/1.jpg": b"one", "more.zip": inner}, "tar")) == {"rose/1.jpg": b"one", "more.zip": inner}


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("name", ["../rose.jpg", "rose/../../1.jpg", "/etc/rose.jpg", "..\\rose.jpg"])
def test_path_traversal_is_flagged(pack, kind, name):
    assert problems(pack({name: b"", "rose/1.jpg": b""}, kind)) == {
        name.replace("\\", "/"): "its name leads out of the archive",
        "rose/1.jpg": None,
    }


def test_links_in_a_tar_are_flagged(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            entry = tarfile.TarInfo(f"rose/{kind.decode()}.jpg")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    assert set(problems(path).values()) == {"a link or device"}


def test_links_in_a_folder(pack):
    folder = pack(FILES, "folder")
    (folder / "rose" / "4.jpg").symlink_to(folder / "lily" / "1.jpg")
    (folder / "rose" / "5.jpg").symlink_to(folder / "nowhere.jpg")
    by_name = {member.name: member for member in members(folder)}
    assert by_name["rose/4.jpg"].read() == b"one"
    assert by_name["rose/5.jpg"].problem == "a broken link, or deleted meanwhile (No such file or directory)"


def test_linked_class_folder_is_flagged(pack, tmp_path):
    folder = pack(FILES, "folder")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1.jpg").touch()
    (folder / "tulip").symlink_to(elsewhere)
    message = f"a link to a folder outside the source, {elsewhere}: copy or move that folder here"
    assert problems(folder)["tulip"] == message


def test_encrypted_member_is_flagged(pack):
    path = pack({"rose/1.jpg": b"one"}, "zip")
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + offset] |= 1
    path.write_bytes(data)
    assert problems(path) == {"rose/1.jpg": "encrypted"}


@pytest.mark.parametrize("kind", KINDS)
def test_large_member_is_flagged_unread(pack, kind):
    path = pack({"rose/1.jpg": bytes(2**20 + 1), "rose/2.jpg": bytes(2**20)}, kind)
    assert {member.name: member.problem for member in members(path, ArchiveLimits(member_bytes=2**20))} == {
        "rose/1.jpg": "larger than 1 MiB (data.limits.member_bytes)",
        "rose/2.jpg": None,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_limited(pack, kind):
    path = pack({f"{i}.jpg": b"" for i in range(4)}, kind)
    assert len(list(members(path, ArchiveLimits(members=4)))) == 4
    with pytest.raises(DataError, match=r"holds more than 3 files and folders; raise data\.limits\.members if that"):
        list(members(path, ArchiveLimits(members=3)))


@pytest.mark.parametrize("kind", KINDS)
def test_total_bytes_are_limited(pack, kind):
    path = pack({f"{i}.jpg": bytes(2**15) for i in range(4)}, kind)
    assert len(list(members(path, ArchiveLimits(unpacked_bytes=2**18)))) == 4
    with pytest.raises(
        DataError, match=r"more than 96 KiB \(98,304 bytes\), unpacked; raise data\.limits\.unpacked_by"
    ):
        list(members(path, ArchiveLimits(unpacked_bytes=3 * 2**15)))


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "zip"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_archive_is_refused(pack, kind, kept):
    noise = random.Random(0)
    path = pack({f"rose/{i}.jpg": noise.randbytes(20_000) for i in range(5)}, kind)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(DataError, match=r"source\.\S+: "):
        contents(path)


def test_corrupted_zip_is_refused(pack):
    path = pack({"rose/1.jpg": bytes(1000)}, "zip")
    data = bytearray(path.read_bytes())
    data[45] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"source\.zip: damaged or cut short \(.+\); get a fresh copy"):
        contents(path)


@pytest.mark.parametrize(
    "method", [9, 12, 14, 93]
)  # Deflate64, which Windows uses for large files; bzip2; LZMA; Zstandard
def test_rare_compression_is_flagged(pack, method):
    path = pack({"rose/1.jpg": b"one", "rose/2.jpg": b"two"}, "zip")
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(header) + offset] = method
    path.write_bytes(data)
    problem = f"compressed by an unsupported method ({method}); repack it"
    assert [member.problem or member.read() for member in members(path)] == [problem, b"two"]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_damage_is_a_data_error(pack, kind):
    rng = random.Random(0)
    path = pack({f"rose/{i}é.jpg": rng.randbytes(50) for i in range(3)}, kind)
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(min(len(whole), 2500))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            [member.read() for member in members(path) if not member.problem]
        except DataError:
            continue


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\); get a fresh copy"),
        (b"hello", "expected a folder, a tar or a zip archive, found a file of another kind"),
        (b"7z\xbc\xaf\x27\x1c\0\4", r"a 7z archive is not supported; unpack it, or pack it as \.tar\.gz or \.zip"),
        (b"Rar!\x1a\x07\x01\0", "a rar archive is not supported"),
        (b"\x28\xb5\x2f\xfd\x04\0", "a zstd archive is not supported"),
        (b"\n<!DOCTYPE html><title>Sign in</title>", "a web page, not an archive"),
        (b"\x1f\x8b\x08 not really gzip", "damaged or cut short"),
        (gzip.compress(b"hello", mtime=0), "compressed, but not a tar inside"),
        (bz2.compress(b"a,b\n1,2\n" * 99), "compressed, but not a tar inside"),
        (b"PK\x03\x04 not really zip", "damaged or cut short .its central directory, at the end, is miss"),
    ],
)
def test_other_kinds_are_named(tmp_path, content, message):
    path = tmp_path / "file.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"file\.zip: {message}"):
        list(members(path))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: socket.socket(socket.AF_UNIX).bind(str(path))])
def test_pipe_or_socket_is_refused(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(Path("source"))
    with pytest.raises(DataError, match="source: expected a folder or a file, found a pipe, socket or device"):
        list(members(Path("source")))


def test_missing_source_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.zip: no such file or folder"):
        list(members(tmp_path / "nowhere.zip"))


def test_error_names_the_target_of_a_link(tmp_path):
    (tmp_path / "flowers.bin").write_bytes(b"hello")
    (tmp_path / "archive").symlink_to(tmp_path / "flowers.bin")
    with pytest.raises(DataError, match=r"flowers\.bin: expected a folder"):
        list(members(tmp_path / "archive"))


def test_backslashes_separate_folders(pack):
    assert list(contents(pack({"rose\\1.jpg": b"one"}, "zip"))) == ["rose/1.jpg"]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_a_tar(tmp_path, format):
    name = f"{'é' * 200}/{'long' * 50}.jpg"
    with tarfile.open(tmp_path / "a.tar", "w", format=format) as archive:
        archive.addfile(tarfile.TarInfo(name))
        archive.addfile(tarfile.TarInfo("rose/1.jpg"))
    assert list(contents(tmp_path / "a.tar")) == [name, "rose/1.jpg"]


def test_concatenated_streams(pack):
    path = pack(FILES, "tar")
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(whole[:700]) + bytes(300) + gzip.compress(whole[700:]) + b"signed: somebody")
    assert contents(path) == FILES


def test_self_extracting_zip(pack):
    path = pack(FILES, "zip")
    path.write_bytes(b"MZ" + bytes(1000) + path.read_bytes())
    assert contents(path) == FILES


def test_zip64_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, archive.open("a.jpg", "w", force_zip64=True) as file:
        file.write(b"one")
    assert contents(tmp_path / "a.zip") == {"a.jpg": b"one"}


def test_unflagged_utf8_names_in_a_zip(pack):
    path = pack({"müller/1.jpg": b"one"}, "zip")
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        data[data.index(header) + offset] = 0
    path.write_bytes(data)
    assert contents(path) == {"müller/1.jpg": b"one"}
