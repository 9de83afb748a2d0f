"""What `flowerml predict FOLDER` says about the files that it does not read."""

import pytest

from flowerml.cli.inputs import Stdin, expanded
from flowerml.tasks import image, text
from tests.tasks import toy


@pytest.mark.parametrize(
    ("task", "name", "remedy"),
    [
        (image, "photo.HEIC", ".heic pictures are not read: save them as JPEG or PNG"),
        (image, "raw.cr2", ".cr2 pictures are not read: save them as JPEG or PNG"),
        (text, "review.docx", ".docx files are not read: save them as plain text (.txt)"),
        (text, "reviews.xlsx", "save it as CSV, and name the file itself"),
        (toy, "strand.fasta", "write each strand to a file"),
        (text, "picture.png", "1 .png (such as"),
    ],
)
def test_unread_files_come_with_a_remedy(tmp_path, capsys, task, name, remedy):
    (tmp_path / name).touch()
    (tmp_path / f"read{min(task.SUFFIXES)}").touch()
    assert [item.name for item in expanded([str(tmp_path)], task, Stdin())] == [
        str(tmp_path / f"read{min(task.SUFFIXES)}")
    ]
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize("task", [image, text, toy])
def test_no_ending_is_read_and_not_read(task):
    assert not set(task.NOT_READ) & (set(task.SUFFIXES) | {".csv", ".jsonl", ".parquet"})
    assert all(suffix == suffix.lower() and suffix in reason for suffix, reason in task.NOT_READ.items())
