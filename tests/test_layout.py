import tarfile

import pytest

from flowerml.errors import DataError
from flowerml.layout import Row, list_files

KINDS = ("folder", "tar.gz", "zip")


@pytest.fixture
def listed(pack):
    """A function that lists the .jpg files of a source made of empty files."""

    def list_names(*names: str, kind: str = "tar"):
        return list_files(pack(dict.fromkeys(names, b""), kind), suffixes={".jpg"})

    return list_names


@pytest.mark.parametrize("kind", KINDS)
def test_folders_and_archives_give_the_same_rows(listed, kind):
    assert listed("lily/1.jpg", "rose/2.JPG", "rose/deep/3.jpg", kind=kind).rows == [
        Row("lily/1.jpg", "lily"),
        Row("rose/2.JPG", "rose"),
        Row("rose/deep/3.jpg", "rose"),
    ]


@pytest.mark.parametrize("name", ["valid", "val", "validation"])
def test_folders_of_splits_are_recognised(listed, name):
    listing = listed("train/rose/1.jpg", f"{name}/rose/2.jpg", "test/rose/3.jpg", "test/rose/deep/4.jpg")
    assert [(row.label, row.split) for row in listing.rows] == [
        ("rose", "train"),
        ("rose", "valid"),
        ("rose", "test"),
        ("rose", "test"),
    ]


@pytest.mark.parametrize("top", ["", "./", "flower_data/", "data/flowers/"])
def test_folders_that_hold_everything_are_seen_through(listed, top):
    plain = listed(f"{top}lily/1.jpg", f"{top}rose/1.jpg")
    split = listed(f"{top}train/rose/1.jpg", f"{top}test/rose/1.jpg")
    assert [(row.label, row.split) for row in plain.rows] == [("lily", None), ("rose", None)]
    assert [(row.label, row.split) for row in split.rows] == [("rose", "train"), ("rose", "test")]


def test_a_class_may_be_called_train(listed):
    plain = listed("train/1.jpg", "plane/1.jpg", "test/1.jpg")
    split = listed("train/train/1.jpg", "train/plane/1.jpg", "valid/train/1.jpg")
    assert [(row.label, row.split) for row in plain.rows] == [("train", None), ("plane", None), ("test", None)]
    assert [(row.label, row.split) for row in split.rows] == [
        ("train", "train"),
        ("plane", "train"),
        ("train", "valid"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_files_are_passed_over_in_silence(listed, kind):
    hidden = (".DS_Store", "rose/.thumb.jpg", ".cache/rose/1.jpg", "__MACOSX/rose/._1.jpg")
    listing = listed("rose/1.jpg", *hidden, kind=kind)
    assert listing.rows == [Row("rose/1.jpg", "rose")]
    assert listing.skipped == []


def test_all_else_that_is_no_example_is_told_with_the_reason(listed):
    listing = listed("train/rose/1.jpg", "train/rose/a.txt", "README", "extra/rose/1.jpg", "train/1.jpg")
    assert listing.rows == [Row("train/rose/1.jpg", "rose", "train")]
    assert {one["id"]: one["reason"] for one in listing.skipped} == {
        "train/rose/a.txt": ".txt: not one of .jpg",
        "README": "no suffix: not one of .jpg",
        "extra/rose/1.jpg": "beside train, but 'extra' is not one of "
        "train, training, test, testing, valid, val, validation, dev",
        "train/1.jpg": "not in a class folder",
    }


def test_a_name_that_leads_out_of_the_archive_is_told(listed):
    listing = listed("rose/1.jpg", "rose/../../2.jpg", "/etc/3.jpg")
    assert listing.rows == [Row("rose/1.jpg", "rose")]
    assert [one["id"] for one in listing.skipped] == ["rose/../../2.jpg", "/etc/3.jpg"]


def test_a_second_file_of_the_same_name_is_told(listed):
    listing = listed("rose/1.jpg", "lily/1.jpg", "./rose/1.jpg")
    assert [row.id for row in listing.rows] == ["rose/1.jpg", "lily/1.jpg"]
    assert listing.skipped == [{"id": "rose/1.jpg", "reason": "a second file of this name"}]


@pytest.mark.parametrize("names", [(), ("README.txt",), ("1.jpg",), ("rose/1.gif",), ("__MACOSX/rose/1.jpg",)])
def test_a_source_without_examples_is_told_what_is_expected(listed, names):
    with pytest.raises(DataError, match=r"source\.tar: no examples found; expected one folder per class holding \.jpg"):
        listed(*names)


def test_the_longer_names_of_splits_are_known(pack):
    names = ("training/rose/1.jpg", "testing/rose/2.jpg", "dev/tulip/3.jpg", "training/tulip/4.jpg")
    found = list_files(pack(dict.fromkeys(names, b"")), suffixes={".jpg"}).rows
    assert [(row.split, row.label) for row in found] == [
        ("train", "rose"),
        ("test", "rose"),
        ("valid", "tulip"),
        ("train", "tulip"),
    ]


def test_a_name_that_is_not_utf8_is_listed(tmp_path):
    with tarfile.open(tmp_path / "old.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        for name in ("caf\xe9/1.jpg", "rose/1.jpg"):
            archive.addfile(tarfile.TarInfo(name))
    found = list_files(tmp_path / "old.tar", suffixes={".jpg"})
    assert [row.label for row in found.rows] == ["rose"]
    assert [one["reason"] for one in found.skipped] == ["its name is not UTF-8"]
