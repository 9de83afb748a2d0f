import random
import tarfile

import pytest

from flowerml.archive import members
from flowerml.errors import DataError

KINDS = ("folder", "tar", "tar.gz", "tar.bz2", "tar.xz", "zip")
FILES = {"lily/1.jpg": b"one", "rose/2.jpg": b"two", "rose/in/3.jpg": b"three"}


def contents(path) -> dict[str, bytes]:
    return {member.name: member.read() for member in members(path)}


def problems(path) -> dict[str, str | None]:
    return {member.name: member.problem for member in members(path)}


@pytest.mark.parametrize("kind", KINDS)
def test_folders_and_archives_of_every_kind_give_the_same(pack, kind):
    path = pack(FILES, kind)
    assert contents(path) == FILES
    assert set(problems(path).values()) == {None}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_an_archive_is_known_by_its_content_and_not_by_its_name(pack, kind):
    path = pack(FILES, kind)
    assert contents(path.rename(path.with_name("archive"))) == FILES


def test_an_archive_keeps_its_order_and_a_folder_is_sorted(pack):
    files = dict(reversed(FILES.items()))
    assert list(contents(pack(files, "tar"))) == list(files)
    assert list(contents(pack(files, "folder"))) == sorted(files)


def test_a_zip_inside_a_tar_does_not_pass_for_the_archive(pack):
    inner = pack(FILES, "zip").read_bytes()
    assert contents(pack({"rose/1.jpg": b"one", "more.zip": inner}, "tar")) == {"rose/1.jpg": b"one", "more.zip": inner}


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("name", ["../rose.jpg", "rose/../../1.jpg", "/etc/rose.jpg", "..\\rose.jpg"])
def test_a_name_that_leads_out_of_the_archive_is_flagged(pack, kind, name):
    assert problems(pack({name: b"", "rose/1.jpg": b""}, kind)) == {
        name.replace("\\", "/"): "its name leads out of the archive",
        "rose/1.jpg": None,
    }


def test_links_and_devices_in_a_tar_are_flagged(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            entry = tarfile.TarInfo(f"rose/{kind.decode()}.jpg")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    assert set(problems(path).values()) == {"a link or device"}


def test_what_a_folder_links_to_is_read_and_a_link_to_nowhere_is_flagged(pack):
    folder = pack(FILES, "folder")
    (folder / "rose" / "4.jpg").symlink_to(folder / "lily" / "1.jpg")
    (folder / "rose" / "5.jpg").symlink_to(folder / "nowhere.jpg")
    found = {member.name: member for member in members(folder)}
    assert found["rose/4.jpg"].read() == b"one"
    assert found["rose/5.jpg"].problem == "not a regular file"


def test_a_class_folder_that_is_a_link_is_not_lost(pack, tmp_path):
    folder = pack(FILES, "folder")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1.jpg").touch()
    (folder / "tulip").symlink_to(elsewhere)
    assert any(name.startswith("tulip") for name in problems(folder))


def test_an_encrypted_member_is_flagged(pack):
    path = pack({"rose/1.jpg": b"one"}, "zip")
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + offset] |= 1
    path.write_bytes(data)
    assert problems(path) == {"rose/1.jpg": "encrypted"}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_member_that_is_too_large_is_flagged_before_it_is_read(pack, kind, monkeypatch):
    monkeypatch.setattr("flowerml.archive.MAX_MEMBER_BYTES", 2**20)
    path = pack({"rose/1.jpg": bytes(2**20 + 1), "rose/2.jpg": bytes(2**20)}, kind)
    assert problems(path) == {"rose/1.jpg": "larger than 1 MiB", "rose/2.jpg": None}


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "zip"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_archive_is_refused(pack, kind, kept):
    noise = random.Random(0)
    path = pack({f"rose/{i}.jpg": noise.randbytes(20_000) for i in range(5)}, kind)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(DataError, match=r"source\.\S+: "):
        contents(path)


def test_a_corrupted_zip_is_refused(pack):
    path = pack({"rose/1.jpg": bytes(1000)}, "zip")
    data = bytearray(path.read_bytes())
    data[45] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"source\.zip: damaged or cut short \(.+\); get a fresh copy"):
        contents(path)


def test_a_zip_with_a_compression_that_python_cannot_undo_is_refused(pack):
    path = pack({"rose/1.jpg": b"one"}, "zip")
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(header) + offset] = 9  # Deflate64, which Windows uses for large files
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"source\.zip: "):
        contents(path)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_no_damage_gives_anything_but_a_data_error(pack, kind):
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


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b\x08 not really gzip", b"PK\x03\x04 not really zip"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "file.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"file\.jpg: neither a folder nor a tar or zip archive; expected one of these"):
        list(members(path))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.zip: no such file or folder"):
        list(members(tmp_path / "nowhere.zip"))


def test_an_error_names_the_place_a_link_leads_to(tmp_path):
    (tmp_path / "flowers.bin").write_bytes(b"hello")
    (tmp_path / "archive").symlink_to(tmp_path / "flowers.bin")
    with pytest.raises(DataError, match=r"flowers\.bin: neither"):
        list(members(tmp_path / "archive"))


def test_backslashes_separate_folders(pack):
    assert list(contents(pack({"rose\\1.jpg": b"one"}, "zip"))) == ["rose/1.jpg"]
