"""Folders as people name them: read as splits or as classes, or refused where both are possible."""

import itertools
from collections import Counter

import pytest

from flowerml.core.errors import DataError
from flowerml.data.folders import classes_in_names, layout, split_names
from flowerml.data.layout import Row, list_files


def files(*folders: str) -> list[str]:
    """Return two files in each of these folders."""
    return [f"{folder}/{number}.jpg" for folder in folders for number in range(2)]


def below(*outer: str, inner: tuple[str, ...] = ("cat", "dog")) -> list[str]:
    """Return the files of folders in other folders."""
    return files(*(f"{folder}/{name}" for folder, name in itertools.product(outer, inner)))


@pytest.fixture
def read(pack):
    """Return a function that lists these files and returns {(label, split): count}."""

    def read(names: list[str]) -> dict[tuple[str, str | None], int]:
        rows = list_files(pack(dict.fromkeys(names, b"")), suffixes={".jpg"}).rows
        return dict(Counter((row.label, row.split) for row in rows))

    return read


SPLIT = {("cat", "train"): 2, ("dog", "train"): 2, ("cat", "test"): 2, ("dog", "test"): 2}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train_set", "test_set"),
        ("TRAIN", "TEST_SIMPLE"),
        ("Training", "Testing"),
        ("train2017", "test2017"),
        ("TrainingSet", "TestSet"),
        ("data/trainset", "data/testset"),
        ("train/images", "test/images"),
        ("training/train", "testing/test"),
        ("top/asl_alphabet_train/asl_alphabet_train", "top/asl_alphabet_test/asl_alphabet_test"),
    ],
)
def test_split_folders_by_any_name(read, train, test):
    assert read(below(train, test)) == SPLIT


def test_valid_and_test_without_train(read):
    assert read(below("val", "test")) == {
        (label, split): n for (label, split), n in SPLIT.items() if split == "test"
    } | {
        ("cat", "valid"): 2,
        ("dog", "valid"): 2,
    }


def test_flat_test_folder_is_no_class(read):
    names = [*below("asl_train/asl_train"), "asl_test/asl_test/A_test.jpg", "asl_test/asl_test/B_test.jpg"]
    assert read(names) == {("cat", "train"): 2, ("dog", "train"): 2}


def test_splits_beside_unlabelled_files(read):
    names = below("seg_train/seg_train", "seg_test/seg_test") + files("seg_pred/seg_pred")
    assert read(names) == SPLIT


def test_splits_below_classes(read):
    assert read(below("cat", "dog", inner=("train", "test"))) == SPLIT


def test_published_imdb_with_index_files(read):
    names = below("aclImdb/train", inner=("neg", "pos", "unsup")) + below("aclImdb/test", inner=("neg", "pos"))
    counts = read([*names, "aclImdb/index.jpg", "aclImdb/train/urls.jpg"])
    assert counts[("unsup", "train")] == counts[("pos", "test")] == 2
    assert len(counts) == 5


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "bus", "car"),
        ("bullet_train", "tube_test"),
        ("training shoes", "test tubes"),
        ("test_1", "test_2"),
        ("cat/a", "cat/b", "dog/c", "dog"),
        ("cat/images", "dog/images"),
        ("train/express", "train/steam", "bus/school", "bus/double", "car/sport"),
    ],
)
def test_classes_stay_classes(read, folders):
    classes = {folder.partition("/")[0] for folder in folders}
    counts = read(files(*folders))
    assert {label for label, _ in counts} == classes
    assert {split for _, split in counts} == {None}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (files("val", "test"), "test, val are called like splits but hold no class folders"),
        (files("seg_train", "seg_test"), "are called like splits"),
        (below("part1", "part2"), "the folders part1, part2 all hold cat, dog, so that it is not clear which are the"),
        (below("cat", "dog", inner=("images", "masks")), "all hold images, masks"),
        (below("amazon/images", "webcam/images"), "the folders amazon, webcam all hold cat, dog"),
        (below("bottle", "cable", inner=("train/good", "test/bad")), "classes and splits cannot be told apart"),
        (below("train", "docs", "figures"), "'train' may be a split or a class"),
        (["train/cat.0.jpg", "train/cat.1.jpg", "train/dog.0.jpg", "train/dog.1.jpg"], "in the files' names .cat, dog"),
        (["train/cat.0.jpg", "train/cat.1.jpg", "test/dog.0.jpg", "test/dog.1.jpg"], "in the files' names .cat, dog"),
        (["cat_0.jpg", "cat_1.jpg", "dog_0.jpg", "dog_1.jpg"], "in the files' names .cat, dog"),
    ],
)
def test_unclear_layout_is_refused(read, names, message):
    with pytest.raises(DataError, match=rf"source\.tar: .*{message}.*--set data\.split\.table=FILE"):
        read(names)


def test_camera_names_are_no_classes():
    assert classes_in_names(["image_0001.jpg", "image_0002.jpg"]) == []
    assert classes_in_names([f"{letter}.jpg" for letter in "abcdef"]) == []


def test_same_words_make_a_split():
    assert split_names(["x_train", "y_test"]) == {}
    assert split_names(["x_train", "x_dev"]) == {"x_train": "train", "x_dev": "valid"}


def test_many_folders_take_no_time():
    names = [
        f"top/{split}/{number}/{file}.jpg" for split in ("a_train", "a_test") for number in range(9000) for file in "ab"
    ]
    assert layout(names).splits == {"a_train": "train", "a_test": "test"}


def test_labels_from_a_table_keep_loose_splits(pack):
    source = pack(dict.fromkeys(("seg_train/1.jpg", "seg_test/2.jpg"), b""))
    rows = list_files(source, suffixes={".jpg"}, labelled=False).rows
    assert rows == [Row("seg_train/1.jpg", "", "train"), Row("seg_test/2.jpg", "", "test")]
