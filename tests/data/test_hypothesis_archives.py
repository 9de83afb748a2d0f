"""Any bytes as an archive: they are read or refused in one line, soon, and without leftovers."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowerml.core.errors import DataError
from flowerml.data.archives import ArchiveLimits, members
from flowerml.data.layout import list_files, read_files
from tests.support.properties import changed, changes, few, in_time

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")

LIMITS = ArchiveLimits(members=1000, member_bytes=2**20, unpacked_bytes=2**23)
PACKED = (bytes, gzip.compress, bz2.compress, lzma.compress, lambda data: lzma.compress(data, lzma.FORMAT_ALONE))
BLOCK = tarfile.BLOCKSIZE

names = st.text(min_size=1, max_size=120).filter(lambda name: "\0" not in name) | st.sampled_from(
    ["rose/1.jpg", "train/rose/1.jpg", "../1.jpg", "/etc/passwd", "rose/", "rose/" * 60 + "1.jpg", "röse/1.jpg", "."]
)
sources = st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=4)
kinds = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, b"S"])
formats = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
methods = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("archives")


def tarred(files: list[tuple[str, bytes]], kind: bytes, form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form, errors="surrogateescape") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name if form != tarfile.USTAR_FORMAT else name[:20])
            entry.size, entry.type, entry.linkname = len(content), kind, name[:20]
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def zipped(files: list[tuple[str, bytes]], method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def signed(content: bytes) -> bytes:
    """Return a tar whose blocks all have valid header checksums, so that false headers are believed."""
    blocks = [bytearray(content[start : start + BLOCK]) for start in range(0, len(content), BLOCK)]
    for block in blocks:
        if len(block) == BLOCK and any(block):
            block[148:156] = b"%06o\0 " % ((sum(block) - sum(block[148:156]) + 8 * 32) & 0o777777)
    return b"".join(blocks)


def check(folder: Path, content: bytes) -> None:
    """Read the source in both ways: only a DataError of one line may be raised, and nothing may be left."""
    source = folder / "source"
    source.write_bytes(content)
    for read in (_members, _files):
        with in_time():
            try:
                taken = read(source)
            except DataError as error:
                assert "\n" not in str(error) and str(error).isprintable()
            else:
                assert taken <= LIMITS.unpacked_bytes
    assert [path.name for path in folder.iterdir()] == ["source"]


def _members(source: Path) -> int:
    return sum(len(member.read()) for member in members(source, LIMITS) if member.problem is None)


def _files(source: Path) -> int:
    listing = list_files(source, suffixes={".jpg"}, limits=LIMITS)
    wanted = {row.id for row in listing.rows}
    files = list(read_files(source, wanted=wanted, limits=LIMITS))
    assert {name for name, _ in files} == wanted
    assert all(".." not in name.split("/") and not name.startswith("/") for name in wanted)
    return sum(len(content) for _, content in files)


@few
@given(st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"]\0\0"]), st.binary())
def test_random_bytes(folder, start, content):
    check(folder, start + content)


@few
@given(sources, kinds, formats, changes, st.booleans(), st.sampled_from(PACKED))
def test_damaged_tar(folder, files, kind, form, made, believed, pack):
    content = changed(tarred(files, kind, form), made)
    check(folder, pack(signed(content) if believed else content))


@few
@given(sources, st.sampled_from(PACKED[1:]), changes)
def test_damaged_compressed_tar(folder, files, pack, made):
    check(folder, changed(pack(tarred(files, tarfile.REGTYPE, tarfile.GNU_FORMAT)), made))


@few
@given(sources, methods, changes)
def test_damaged_zip(folder, files, method, made):
    check(folder, changed(zipped(files, method), made))
