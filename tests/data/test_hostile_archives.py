"""Archives made to fill the memory, to hang or to lie, and such that were damaged on the way."""

import gzip
import io
import json
import lzma
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import pytest

from flowerml.core.errors import DataError
from flowerml.data.archives import ArchiveLimits, members
from flowerml.data.archives.members import Tally

MEBIBYTE = 2**20
END = bytes(1024)
READ = """
import json, resource, sys
from pathlib import Path
from flowerml.core.errors import DataError
from flowerml.data.archives import ArchiveLimits, members
sys.modules["flowerml.data.archives.members"].BOMB_BYTES //= 16  # so that no test waits for a whole gibibyte
resource.setrlimit(resource.RLIMIT_AS, (200 * 2**20, 200 * 2**20))
try:
    for member in members(Path(sys.argv[1]), ArchiveLimits(**json.loads(sys.argv[2]))):
        print(member.name, member.problem or len(member.read()))
except DataError as error:
    print(error)
"""


@pytest.fixture
def reads(tmp_path):
    """Writes a source and reads it in a process with 200 MiB; gives the lines of what was read, and of an error."""

    def run(content: bytes, **limits: int) -> list[str]:
        path = tmp_path / "source"
        path.write_bytes(content)
        command = [sys.executable, "-c", READ, str(path), json.dumps(limits)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.stderr == ""
        assert [path.name for path in tmp_path.iterdir()] == ["source"]
        return done.stdout.splitlines()

    return run


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(content: bytes) -> bytes:
    return header("pax", len(content), tarfile.XHDTYPE) + padded(content)


def record(key: str, value: str) -> bytes:
    length = next(n for n in range(len(key + value) + 3, 10**6) if n == len(f"{n} {key}={value}\n"))
    return f"{length} {key}={value}\n".encode()


ROSE = header("rose/1.jpg", 3) + padded(b"one")


def zeros(mebibytes: int) -> bytes:
    """As many MiB of zeros, gzipped to a thousandth of them."""
    return gzip.compress(bytes(16 * MEBIBYTE)) * (mebibytes // 16)


def patched(content: bytes, *places: tuple[bytes, int, str, int]) -> bytes:
    """A zip with numbers changed: (which record, the place in it, its struct format, the number)."""
    data = bytearray(content)
    for start, offset, form, number in places:
        struct.pack_into(form, data, data.index(start) + offset, number)
    return bytes(data)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


RECORD = b"PK\x01\x02"


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_huge_header_is_refused(reads, packed, kind):
    (line,) = reads(packed(header("x", 8 * 2**30, kind) + END))
    assert "damaged or cut short (an extended header of 8 GiB)" in line


def test_huge_member_is_refused_at_once(reads):
    claim = header("rose/1.jpg", 10 * 2**40) + END
    large = "rose/1.jpg larger than 256 MiB (data.limits.member_bytes)"
    assert reads(claim)[0] == reads(gzip.compress(claim))[0] == large
    assert "damaged or cut short (it ends early)" in reads(claim)[1]
    assert "which only a decompression bomb does" in reads(gzip.compress(claim))[1]


def test_gzip_bomb_ends_early(reads):
    (line,) = reads(zeros(512))
    assert "unpack to more than 64 MiB and 200 times their size" in line
    assert "if you trust it, unpack it and give the folder" in line


def test_bomb_in_a_skipped_member(reads):
    lines = reads(gzip.compress(header("rose/1.jpg", 64 * MEBIBYTE - 1024)) + zeros(96), member_bytes=MEBIBYTE)
    assert lines[0] == "rose/1.jpg larger than 1 MiB (data.limits.member_bytes)"
    assert "decompression bomb" in lines[1]


def test_high_compression_is_no_bomb(tmp_path):
    Tally(tmp_path, ArchiveLimits(), packed=2**20).count(size=2**30)
    Tally(tmp_path, ArchiveLimits(), packed=2**30).count(size=200 * 2**30)
    with pytest.raises(DataError, match="these 1 MiB unpack to more than 1 GiB and 200 times their size"):
        Tally(tmp_path, ArchiveLimits(), packed=2**20).count(size=2**30 + 1)


@pytest.mark.parametrize("packed", [gzip.compress, lzma.compress])
def test_unpacked_bytes_are_limited(reads, packed):
    bomb = packed(header("rose/1.jpg", 32 * MEBIBYTE) + bytes(32 * MEBIBYTE) + END)
    large = "rose/1.jpg larger than 1 MiB (data.limits.member_bytes)"
    assert reads(bomb, member_bytes=MEBIBYTE, unpacked_bytes=33 * MEBIBYTE) == [large]
    assert "raise data.limits.unpacked_bytes" in reads(bomb, unpacked_bytes=16 * MEBIBYTE)[-1]


def test_xz_dictionary_is_limited(reads):
    data = bytearray(lzma.compress(ROSE + END))
    length = 4 * (data[12] + 1)  # of the block's header, which ends with a checksum and holds the size as 40: 4 GiB
    data[16] = 40
    data[12 + length - 4 : 12 + length] = struct.pack("<I", zlib.crc32(data[12 : 12 + length - 4]))
    assert "unpacking this .xz takes more than 512 MiB of memory" in reads(bytes(data))[0]


def test_negative_size_ends(reads):
    assert "(a negative size)" in reads(ROSE + header("rose/2.jpg", -2048) + END)[-1]
    assert "(an invalid number)" in reads(ROSE + pax(record("size", "-2048")) + ROSE + END)[-1]


def test_many_extended_headers_end(reads):
    assert reads(pax(record("path", "lily/1.jpg")) * 5000 + ROSE + END) == ["lily/1.jpg 3"]


def test_header_of_digits_is_fast(reads):
    assert "(an invalid extended header)" in reads(pax(b"1" * 500_000) + ROSE + END)[0]


def test_header_of_many_records_is_fast(reads):
    assert reads(pax(b"5 a=\n" * 200_000) + ROSE + END) == ["rose/1.jpg 3"]


def test_sparse_members_are_flagged(reads):
    old = bytearray(header("old.jpg", 512, tarfile.GNUTYPE_SPARSE))
    old[482] = 1  # more of the map follows, and after it a last piece
    old[483:495] = b"77777777777\0"  # the size once unpacked: 8 GiB
    old[148:156] = b"%06o\0 " % (sum(old[:148]) + 8 * 32 + sum(old[156:]))
    more = bytes(504) + b"\1" + bytes(7) + bytes(512)
    sizes = (
        record("GNU.sparse.major", "1") + record("GNU.sparse.name", "new.jpg") + record("GNU.sparse.realsize", "9e9")
    )
    new = pax(sizes) + header("GNUSparseFile.0/new.jpg", 512) + padded(b"1\n0\n3\n")
    assert reads(bytes(old) + more + padded(b"x") + new + ROSE + END) == [
        "old.jpg a sparse file: pack it without --sparse",
        "new.jpg a sparse file: pack it without --sparse",
        "rose/1.jpg 3",
    ]


def test_overlapping_zip_is_refused(reads):
    bomb = zipped({"1.jpg": bytes(1000), "2.jpg": bytes(1000)})
    second = bomb.rindex(RECORD)
    same = bomb[:second] + patched(bomb[second:], (RECORD, 42, "<L", 0))
    around = patched(bomb, (RECORD, 20, "<L", second - 60))
    assert "(its entries overlap)" in reads(same)[0]
    assert "(its entries overlap)" in reads(around)[0]


def test_zip_bomb_is_refused_unread(reads):
    bomb = patched(zipped({"1.jpg": b"one", "2.jpg": b"two"}), (RECORD, 24, "<L", 2**31))
    assert "which only a decompression bomb does" in reads(bomb)[0]


@pytest.mark.parametrize("declared", [0, 10, 2000, 50 * MEBIBYTE])
def test_false_size_in_a_zip(reads, declared):
    real = bytes(1000) if declared > 1000 else bytes(100 * MEBIBYTE)
    lie = patched(zipped({"1.jpg": real}), (RECORD, 24, "<L", declared))
    (line,) = reads(lie)
    assert "damaged or cut short" in line


def test_false_size_with_its_checksum(reads):
    lie = zipped({"1.jpg": bytes(100 * MEBIBYTE)})
    lie = patched(lie, (RECORD, 24, "<L", 10), (RECORD, 16, "<L", zlib.crc32(bytes(10))))
    assert reads(lie) == ["1.jpg 10"]


def test_huge_zip_directory_is_refused(reads):
    entry = zipped({"1.jpg": b""})
    table, end = entry[entry.index(RECORD) : -22], entry[-22:]
    many = entry[: entry.index(RECORD)] + table * 600_000  # 29 MiB, and 300 as objects
    end = patched(end, (b"PK\x05\x06", 12, "<L", len(table) * 600_000))
    assert "holds more than 500,000 files and folders" in reads(many + end, members=500_000)[0]
    assert "holds more than 10 files and folders" in reads(many + end, members=10)[0]


def test_link_in_a_zip_is_flagged(reads):
    link = zipfile.ZipInfo("rose/1.jpg")
    link.external_attr = 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert reads(file.getvalue()) == ["rose/1.jpg a link or device"]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_every_cut_raises_an_error(pack, kind):
    files = {f"rose/{'long' * 30}{i}.jpg": bytes([i]) * 700 for i in range(3)}
    path = pack(files, kind)
    whole = path.read_bytes()
    step = 97 if len(whole) > 4000 else 5
    for cut in sorted({*range(0, len(whole), step), *range(0, len(whole), 512), len(whole) - 1}):
        path.write_bytes(whole[:cut])
        try:
            assert {member.name: member.read() for member in members(path)} == files
        except DataError:
            continue
        assert kind == "tar"  # the end mark is there
        assert not whole[cut:].strip(b"\0")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (ROSE * 2, "it ends early"),
        (ROSE * 2 + bytes(100), "it ends early"),
        (ROSE + b"?" + ROSE[1:] + END, "bad checksum"),
        (ROSE + bytes(512) + ROSE + END, "data after its end mark"),
        (ROSE + END + ROSE + END, "only the first of several tars in one file is read"),
    ],
)
@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_tar_without_end_mark_is_damaged(reads, content, reason, packed):
    assert any(f"damaged or cut short ({reason}" in line or reason in line for line in reads(packed(content))[1:])


def test_gzip_without_checksum(reads):
    assert "its last compressed bytes are missing" in reads(gzip.compress(ROSE + END)[:-8])[-1]


def test_zip_cut_behind_an_inner_zip(reads):
    inner = zipped({"other/1.jpg": b"two"})
    whole = zipped({"1.jpg": b"one", "more.zip": inner, "2.jpg": b"three"}, zipfile.ZIP_STORED)
    cut = whole[: whole.index(inner) + len(inner)]
    assert "damaged or cut short (its central directory is that of another zip)" in reads(cut)[0]


@pytest.mark.parametrize("name", ["rose/\x1b[31m1.jpg", "rose\n/1.jpg", "rose/1\u2028.jpg", "rose/\x9b1.jpg"])
def test_control_characters_are_flagged(pack, name):
    for kind in ("folder", "tar", "zip"):
        (member,) = members(pack({name: b""}, kind))
        assert member.problem == "its name contains control characters: rename it"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("C:\\rose\\1.jpg", "its name leads out of the archive"),
        ("c:/rose/1.jpg", "its name leads out of the archive"),
        ("x" * 4097, "its name is longer than 4,096 characters"),
        ("x/" * 5000 + "1.jpg", "its name is longer than 4,096 characters"),
        ("x/" * 2000 + "1.jpg", None),
    ],
)
def test_unsafe_names_are_flagged(pack, name, problem):
    assert [member.problem for kind in ("tar", "zip") for member in members(pack({name: b""}, kind))] == [problem] * 2


def test_member_without_a_name(pack):
    assert [member.problem for member in members(pack({"": b""}, "tar"))] == ["it has no name"]
