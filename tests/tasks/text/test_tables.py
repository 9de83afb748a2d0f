"""Folders and archives of tables, and what a listing says about their rows."""

import zipfile
from types import SimpleNamespace

import pytest

from flowerml.core.errors import DataError
from flowerml.pipeline.adhoc import kind_of
from flowerml.tasks.text.reading import contents, listing
from flowerml.tasks.text.sections import Data, Limits

LIMITS = Limits(members=100, member_bytes=10**7, unpacked_bytes=10**9, characters=1_000_000)
TABLE = "text,label\ngood,pos\ndull,neg\n"


def section(**columns):
    defaults = {"text_column": "text", "label_column": "label", "split_column": None, "group_column": None}
    return SimpleNamespace(limits=LIMITS, **defaults | columns)


def folder(path, **tables):
    """Write tables by name, with __ for a folder and _ for the dot."""
    for name, content in tables.items():
        file = path.joinpath(*name.rsplit("_", 1)[0].split("__")).with_suffix("." + name.rsplit("_", 1)[1])
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    return path


def test_folder_of_split_tables(tmp_path):
    source = folder(
        tmp_path, train_csv=TABLE, test_csv=TABLE, dev_jsonl='{"text": "fine", "label": "pos"}', LICENSE_md=""
    )
    listed = listing(source, section())
    assert [(row.id, row.label, row.split) for row in listed.rows] == [
        ("dev.jsonl row 1", "pos", "valid"),
        ("test.csv row 1", "pos", "test"),
        ("test.csv row 2", "neg", "test"),
        ("train.csv row 1", "pos", "train"),
        ("train.csv row 2", "neg", "train"),
    ]
    assert [skip["id"] for skip in listed.skipped] == ["LICENSE.md"]
    texts = dict(contents(source, section(), {"train.csv row 2", "dev.jsonl row 1"}))
    assert texts == {"train.csv row 2": b"dull", "dev.jsonl row 1": b"fine"}
    assert kind_of(source) == "text"


def test_archive_of_one_table(tmp_path):
    with zipfile.ZipFile(tmp_path / "imdb.zip", "w") as archive:
        archive.writestr("IMDB Dataset.csv", TABLE)
    source = tmp_path / "imdb.zip"
    assert [(row.id, row.split) for row in listing(source, section()).rows] == [
        ("IMDB Dataset.csv row 1", None),
        ("IMDB Dataset.csv row 2", None),
    ]
    assert dict(contents(source, section(), {"IMDB Dataset.csv row 2"})) == {"IMDB Dataset.csv row 2": b"dull"}
    assert kind_of(source) == "text"


def test_shards_of_splits(tmp_path):
    names = {"train-00000-of-00002": "train", "train-00001-of-00002": "train", "test-00000-of-00001": "test"}
    for name in names:
        (tmp_path / f"{name}.csv").write_text(TABLE)
    listed = listing(tmp_path, section())
    assert {row.id.split(".")[0]: row.split for row in listed.rows} == names


def test_tables_in_split_folders(tmp_path):
    source = folder(tmp_path, train__a_csv=TABLE, test__b_csv=TABLE)
    assert {row.id: row.split for row in listing(source, section()).rows}["test/b.csv row 1"] == "test"


def test_test_table_without_labels_is_reported(tmp_path):
    source = folder(tmp_path, train_csv="id,text,label\n1,good,pos\n", test_csv="id,text,year\n1,good,1999\n")
    listed = listing(source, section())
    assert [row.id for row in listed.rows] == ["train.csv row 1"]
    assert listed.skipped == [{"id": "test.csv", "reason": "no column 'label'"}]
    assert "test.csv is left out" in listed.warnings[0]
    assert list(contents(source, section(), {"train.csv row 1"})) == [("train.csv row 1", b"good")]


def test_tables_of_no_split_are_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        listing(folder(tmp_path, a_csv=TABLE, b_csv=TABLE), section())
    assert str(caught.value).endswith(
        "holds 2 tables (a.csv, b.csv), of which none is called like a split; give one of them, or name them train.csv "
        "and test.csv"
    )


def test_tables_beside_texts_are_skipped(tmp_path):
    source = folder(tmp_path, pos__1_txt="good", neg__2_txt="dull", labels_csv=TABLE)
    listed = listing(source, section())
    assert [row.id for row in listed.rows] == ["neg/2.txt", "pos/1.txt"]
    assert [skip["id"] for skip in listed.skipped] == ["labels.csv"]


def test_split_values_are_trimmed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,part\ngood,pos,train \ndull,neg,Test set\nfine,pos,holdout\nbad,neg,\n")
    listed = listing(path, section(split_column="part"))
    assert [(row.id, row.split) for row in listed.rows] == [("row 1", "train"), ("row 2", "test"), ("row 4", None)]
    assert listed.skipped[0]["reason"].startswith("split 'holdout' is not one of train,")


def test_unusable_rows_are_reported(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\ngood,pos\ndull,  \nfine, really,pos\n")
    listed = listing(path, section())
    assert listed.skipped == [
        {"id": "row 2", "reason": "no label"},
        {"id": "row 3", "reason": "wrong number of fields, 3 instead of 2 (line 4)"},
    ]


def test_no_usable_row_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\ngood,\ndull,\n")
    with pytest.raises(DataError, match=r"no row can be used \(no label\); .* -S data\.label_column=NAME"):
        listing(path, section())


def test_header_among_the_rows_is_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("review,stars\ngood,pos\ndull,neg\nfine,pos\n")
    listed = listing(path, section(text_column=0, label_column=1))
    assert "only its first row is of class 'stars'" in listed.warnings[0]


def test_missing_row_is_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(TABLE)
    with pytest.raises(DataError, match="row 3 is missing; re-run"):
        list(contents(path, section(), {"row 1", "row 3"}))


@pytest.mark.parametrize(("value", "valid"), [("text", True), (0, True), (-1, False), (True, False), (None, False)])
def test_columns_are_names_or_numbers(value, valid):
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(Data.model_fields["text_column"].annotation, config={"strict": True})
    if valid:
        assert adapter.validate_python(value) == value
    else:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)
