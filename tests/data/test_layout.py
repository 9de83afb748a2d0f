import tarfile
import unicodedata

import pytest

from flowerml.core.errors import DataError
from flowerml.data.archives import ArchiveLimits
from flowerml.data.layout import Listing, Row, list_files, read_files, skipped_summary

KINDS = ("folder", "tar.gz", "zip")


@pytest.fixture
def listed(pack):
    """A function that lists the .jpg files of a source made of empty files."""

    def list_names(*names: str, kind: str = "tar"):
        return list_files(pack(dict.fromkeys(names, b""), kind), suffixes={".jpg"})

    return list_names


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_rows(listed, kind):
    assert listed("lily/1.jpg", "rose/2.JPG", "rose/deep/3.jpg", kind=kind).rows == [
        Row("lily/1.jpg", "lily"),
        Row("rose/2.JPG", "rose"),
        Row("rose/deep/3.jpg", "rose"),
    ]


@pytest.mark.parametrize("name", ["valid", "val", "validation"])
def test_folders_of_splits(listed, name):
    listing = listed("train/rose/1.jpg", f"{name}/rose/2.jpg", "test/rose/3.jpg", "test/rose/deep/4.jpg")
    assert [(row.label, row.split) for row in listing.rows] == [
        ("rose", "train"),
        ("rose", "valid"),
        ("rose", "test"),
        ("rose", "test"),
    ]


@pytest.mark.parametrize("top", ["", "./", "flower_data/", "data/flowers/"])
def test_enclosing_folders_are_ignored(listed, top):
    plain = listed(f"{top}lily/1.jpg", f"{top}rose/1.jpg")
    split = listed(f"{top}train/rose/1.jpg", f"{top}test/rose/1.jpg")
    assert [(row.label, row.split) for row in plain.rows] == [("lily", None), ("rose", None)]
    assert [(row.label, row.split) for row in split.rows] == [("rose", "train"), ("rose", "test")]


def test_class_called_train(listed):
    plain = listed("train/1.jpg", "plane/1.jpg", "test/1.jpg")
    split = listed("train/train/1.jpg", "train/plane/1.jpg", "valid/train/1.jpg")
    assert [(row.label, row.split) for row in plain.rows] == [("train", None), ("plane", None), ("test", None)]
    assert [(row.label, row.split) for row in split.rows] == [
        ("train", "train"),
        ("plane", "train"),
        ("train", "valid"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_files_are_skipped(listed, kind):
    hidden = (".DS_Store", "rose/._1.jpg", ".cache/thumbs.db", "__MACOSX/rose/._1.jpg")
    listing = listed("rose/1.jpg", *hidden, kind=kind)
    assert listing.rows == [Row("rose/1.jpg", "rose")]
    assert listing.skipped == listing.warnings == []


def test_hidden_examples_give_a_warning(listed):
    listing = listed("rose/1.jpg", ".cache/rose/1.jpg", "rose/.2.jpg")
    assert listing.skipped == []
    assert listing.warnings == ["hidden files were skipped: 2, such as .cache/rose/1.jpg"]


def test_skipped_files_have_a_reason(listed):
    listing = listed("train/rose/1.jpg", "train/rose/a.txt", "README", "extra/rose/1.jpg", "train/1.jpg")
    assert listing.rows == [Row("train/rose/1.jpg", "rose", "train")]
    assert {file["id"]: file["reason"] for file in listing.skipped} == {
        "train/rose/a.txt": ".txt: not one of .jpg",
        "README": "no suffix: not one of .jpg",
        "extra/rose/1.jpg": "beside train, but 'extra' does not name a split (train, valid or test)",
        "train/1.jpg": "not in a class folder",
    }


def test_path_traversal_is_reported(listed):
    listing = listed("rose/1.jpg", "rose/../../2.jpg", "/etc/3.jpg")
    assert listing.rows == [Row("rose/1.jpg", "rose")]
    assert [file["id"] for file in listing.skipped] == ["rose/../../2.jpg", "/etc/3.jpg"]


def test_duplicate_name_is_reported(listed):
    listing = listed("rose/1.jpg", "lily/1.jpg", "./rose/1.jpg")
    assert [row.id for row in listing.rows] == ["rose/1.jpg", "lily/1.jpg"]
    assert listing.skipped == [{"id": "rose/1.jpg", "reason": "a second file of this name"}]
    assert listing.warnings == [
        "only the first of several files with the same name is used: skipped 1, such as rose/1.jpg"
    ]


@pytest.mark.parametrize("names", [(), ("README.txt",), ("1.jpg",), ("rose/1.gif",), ("__MACOSX/rose/1.jpg",)])
def test_source_without_examples(listed, names):
    with pytest.raises(DataError, match=r"source\.tar: no examples found; expected one folder per class holding \.jpg"):
        listed(*names)


def test_long_names_of_splits(pack):
    names = ("training/rose/1.jpg", "testing/rose/2.jpg", "dev/tulip/3.jpg", "training/tulip/4.jpg")
    rows = list_files(pack(dict.fromkeys(names, b"")), suffixes={".jpg"}).rows
    assert [(row.split, row.label) for row in rows] == [
        ("train", "rose"),
        ("test", "rose"),
        ("valid", "tulip"),
        ("train", "tulip"),
    ]


def test_name_that_is_not_utf8(tmp_path):
    with tarfile.open(tmp_path / "old.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        for name in ("caf\xe9/1.jpg", "rose/1.jpg"):
            archive.addfile(tarfile.TarInfo(name))
    listing = list_files(tmp_path / "old.tar", suffixes={".jpg"})
    assert [row.label for row in listing.rows] == ["rose"]
    assert [file["reason"] for file in listing.skipped] == ["its name is not UTF-8"]


@pytest.mark.parametrize("kind", KINDS)
def test_inner_archive_is_not_opened(listed, pack, kind):
    inner = pack({"rose/2.jpg": b""}, "tar").read_bytes()
    listing = list_files(pack({"rose/1.jpg": b"", "rose/2.tar": inner, "3.tar.gz": b""}, kind), suffixes={".jpg"})
    where = "folder" if kind == "folder" else "archive"
    assert [row.id for row in listing.rows] == ["rose/1.jpg"]
    assert {file["reason"] for file in listing.skipped} == {f"an archive inside the {where} is not opened: unpack it"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "it has no files, except hidden ones"),
        (("data.zip",), r"1 of 1 files skipped: an archive inside the archive is not opened: .* \(such as data.zip\)"),
        (("1.jpg", "a/1.heic", "b/2.heic"), r"2 of 3 files skipped: \.heic: not one of \.jpg \(such as a/1.heic\)"),
        (("1.jpg", "2.jpg"), r"2 of 2 files skipped: not in a class folder \(such as 1.jpg\)"),
    ],
)
def test_most_frequent_reason_is_named(listed, names, message):
    with pytest.raises(DataError, match=f"no examples found; expected .* holding .jpg files; {message}$"):
        listed(*names)


@pytest.mark.parametrize("kind", KINDS)
def test_class_in_two_unicode_forms(pack, kind):
    composed, apart = (unicodedata.normalize(form, "rosé") for form in ("NFC", "NFD"))
    source = pack({f"{composed}/1.jpg": b"one", f"{apart}/1.jpg": b"two", "lily/1.jpg": b""}, kind)
    rows = list_files(source, suffixes={".jpg"}).rows
    assert {row.id: row.label for row in rows} == {
        f"{composed}/1.jpg": composed,
        f"{apart}/1.jpg": composed,
        "lily/1.jpg": "lily",
    }
    assert dict(read_files(source, wanted={f"{apart}/1.jpg"})) == {f"{apart}/1.jpg": b"two"}


def test_similar_classes_give_a_warning(listed):
    listing = listed("Rose/1.jpg", "rose/2.jpg", "rose /3.jpg", "lily/4.jpg")
    assert [row.label for row in listing.rows] == ["Rose", "rose", "rose ", "lily"]
    assert listing.warnings == [
        "classes that differ only in case or spaces stay separate: 'Rose' and 'rose' and 'rose '; "
        "rename them if they are one"
    ]


def test_names_are_case_sensitive(listed):
    listing = listed("rose/1.jpg", "rose/1.JPG")
    assert len(listing.rows) == 2
    assert listing.warnings == []


def test_skipped_ids_are_printable():
    listing = Listing()
    listing.skip("rose/\x1b[31m\n1.jpg" + "x" * 10_000, "encrypted")
    assert listing.skipped[0]["id"].startswith(r"rose/\x1b[31m\n1.jpgxxx")
    assert listing.skipped[0]["id"].isprintable()
    assert len(listing.skipped[0]["id"]) == 300


def test_unlabelled_files_in_any_folder(pack):
    source = pack(dict.fromkeys(("jpg/1.jpg", "jpg/more/2.jpg", "readme.txt"), b""))
    listing = list_files(source, suffixes={".jpg"}, labelled=False)
    assert listing.rows == [Row("jpg/1.jpg", ""), Row("jpg/more/2.jpg", "")]
    assert [file["id"] for file in listing.skipped] == ["readme.txt"]


def test_unlabelled_files_keep_splits(pack):
    split = list_files(pack(dict.fromkeys(("a/train/1.jpg", "a/val/2.jpg"), b"")), suffixes={".jpg"}, labelled=False)
    unsplit = list_files(pack(dict.fromkeys(("a/train/1.jpg", "a/boat/2.jpg"), b"")), suffixes={".jpg"}, labelled=False)
    assert [row.split for row in split.rows] == ["train", "valid"]
    assert [row.split for row in unsplit.rows] == [None, None]


def test_limits_of_listing_and_reading(pack):
    source = pack({"rose/1.jpg": bytes(2000), "rose/2.jpg": bytes(10)})
    limits = ArchiveLimits(member_bytes=1000)
    listing = list_files(source, suffixes={".jpg"}, limits=limits)
    assert listing.skipped == [{"id": "rose/1.jpg", "reason": "larger than 1000 bytes (data.limits.member_bytes)"}]
    assert dict(read_files(source, wanted={"rose/2.jpg"}, limits=limits)) == {"rose/2.jpg": bytes(10)}
    with pytest.raises(DataError, match=r"data\.limits\.members"):
        list(read_files(source, wanted={"rose/2.jpg"}, limits=ArchiveLimits(members=1)))


def test_summary_counts_rows_that_differ_in_their_line():
    reason = "wrong number of fields, 3 instead of 2"
    rows = [{"id": f"row {number}", "reason": f"{reason} (line {number + 1})"} for number in (7, 9)]
    assert skipped_summary(rows) == f"left out 2 rows: 2 {reason} (such as row 7)"


def test_summary_counts_the_most_frequent_reasons():
    reasons = {"a": 3, "b": 2, "c": 2, "d": 2, "e": 1}
    skipped = [{"id": f"{r}{n}", "reason": r} for r, count in reasons.items() for n in range(count)]
    assert skipped_summary([]) == ""
    assert skipped_summary(skipped) == (
        "left out 10 files: 3 a (such as a0); 2 b (such as b0); 2 c (such as c0); 2 d (such as d0); 1 for other reasons"
    )
