import pytest

from flowerml.core.errors import DataError
from flowerml.data.layout import Listing, Row
from flowerml.data.split_table import SplitTable


@pytest.fixture
def table(tmp_path):
    """Writes lines as a CSV and reads it as a table."""

    def read(*lines: str) -> SplitTable:
        path = tmp_path / "splits.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return SplitTable.read(path)

    return read


def listed(*ids: str) -> Listing:
    return Listing([Row(id, id.split("/")[0]) for id in ids])


def test_splits_and_groups(table):
    result = table("file,split,group", "rose/1.jpg,train,ann", "rose/2.jpg,val,").apply(
        listed("rose/1.jpg", "rose/2.jpg")
    )
    assert result.rows == [Row("rose/1.jpg", "rose", "train", "ann"), Row("rose/2.jpg", "rose", "valid", None)]


def test_labels_replace_folders(table):
    result = table("file,label", "1.jpg,rose", "2.jpg,tulip").apply(listed("jpg/1.jpg", "jpg/2.jpg"))
    assert [row.label for row in result.rows] == ["rose", "tulip"]


def test_file_by_the_end_of_its_path(table):
    result = table("file,split", "1.jpg,test", "b/2.jpg,train").apply(
        listed("top/a/1.jpg", "top/b/2.jpg", "top/a/2.jpg")
    )
    assert [(row.id, row.split) for row in result.rows] == [("top/a/1.jpg", "test"), ("top/b/2.jpg", "train")]


def test_whole_path_wins(table):
    result = table("file,split", "a/1.jpg,test").apply(listed("x/a/1.jpg", "a/1.jpg"))
    assert [row.id for row in result.rows] == ["a/1.jpg"]


def test_ambiguous_name_is_refused(table):
    with pytest.raises(DataError, match=r"'1.jpg' names 2 files \(a/1.jpg, b/1.jpg\); give longer paths"):
        table("file,split", "1.jpg,test").apply(listed("a/1.jpg", "b/1.jpg"))


def test_unlisted_rows_are_skipped(table):
    result = table("file,split", "a/1.jpg,test").apply(listed("a/1.jpg", "a/2.jpg"))
    assert result.skipped == [{"id": "a/2.jpg", "reason": "not in the table splits.csv"}]


def test_missing_files_give_a_warning(table):
    result = table("file,split", "a/1.jpg,test", "a/7.jpg,test", "a/8.jpg,test").apply(listed("a/1.jpg"))
    assert result.warnings == ["2 of the 3 files in splits.csv are not in the source, such as a/7.jpg"]


def test_table_of_other_files_is_refused(table):
    with pytest.raises(
        DataError, match=r"none of its 1 files is in the source; it names 'x.jpg', the source holds 'a/1.jpg'"
    ):
        table("file,split", "x.jpg,test").apply(listed("a/1.jpg"))


def test_empty_label_and_empty_split(table):
    result = table("file,label,split", "1.jpg,,train", "2.jpg,rose,").apply(listed("a/1.jpg", "a/2.jpg"))
    assert result.rows == [Row("a/2.jpg", "rose", None)]
    assert result.skipped == [{"id": "a/1.jpg", "reason": "no label in the table"}]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["name,split", "1.jpg,train"],
            "the column `file` and at least one of `split`, `group` and `label`, found name, split",
        ),
        (["file", "1.jpg"], "expected a header with the column `file` and at least one of"),
        ([""], "found nothing"),
        (["file,split", "1.jpg"], "line 2 has more or fewer fields than the header"),
        (["file,split", "1.jpg,train,5"], "line 2 has more or fewer fields than the header"),
        (["file,split", "1.jpg,train", "1.jpg,test"], "'1.jpg' is listed twice (line 3), with different values"),
        (["file,split", '"1.jpg,train'], "cannot be read as a CSV in UTF-8"),
    ],
)
def test_invalid_table_is_refused(table, lines, message):
    with pytest.raises(DataError) as caught:
        table(*lines)
    assert message in str(caught.value)


def test_unknown_split_is_refused(table):
    with pytest.raises(DataError, match=r"split 'holdout' of '1.jpg' is not one of train, training, test"):
        table("file,split", "1.jpg,holdout").apply(listed("a/1.jpg"))


def test_binary_table_is_refused(tmp_path):
    path = tmp_path / "splits.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="cannot be read as a CSV in UTF-8"):
        SplitTable.read(path)


def test_decomposed_name_is_matched(table):
    result = table("file,label", "caf\u00e9.jpg,th\u00e9").apply(listed("a/cafe\u0301.jpg"))
    assert [(row.id, row.label) for row in result.rows] == [("a/cafe\u0301.jpg", "th\u00e9")]


def test_spaces_do_not_count(table):
    result = table("file , split", " rose/1.jpg, Train ", "rose/1.jpg,Train", "rose/2.jpg,test_set ").apply(
        listed("rose/1.jpg", "rose/2.jpg")
    )
    assert [row.split for row in result.rows] == ["train", "test"]


def test_split_drop_leaves_out(table):
    result = table("file,split", "a/1.jpg,train", "a/2.jpg,Drop").apply(listed("a/1.jpg", "a/2.jpg"))
    assert [row.id for row in result.rows] == ["a/1.jpg"]
    assert result.skipped == [{"id": "a/2.jpg", "reason": "dropped in the table splits.csv"}]


def test_rows_of_tables_are_named_by_id(table):
    rows = Listing([Row("row 1", "good"), Row("row 2", "bad"), Row("row 3", "bad")])
    result = table("file,label", "row 1,good", "row 2,good").apply(rows)
    assert [(row.id, row.label) for row in result.rows] == [("row 1", "good"), ("row 2", "good")]


def test_moved_rows_are_refused(table):
    splits = table("file,label,given_label", "row 1,good,bad", "row 2,bad,bad")
    assert len(splits.apply(Listing([Row("row 1", "bad"), Row("row 2", "bad")])).rows) == 2
    with pytest.raises(
        DataError, match=r"row 2 had the label 'bad' when this table was written, and has 'good' in the"
    ):
        splits.apply(Listing([Row("row 1", "bad"), Row("row 2", "good")]))


def test_given_labels_need_no_labels_of_the_source(table):
    result = table("file,label,given_label", "1.jpg,rose,tulip").apply(Listing([Row("jpg/1.jpg", "")]))
    assert [row.label for row in result.rows] == ["rose"]


def test_spaces_at_the_ends_of_names_do_not_count(table):
    result = table("file,split", " a/1.jpg,test").apply(listed(" a/1.jpg"))
    assert [(row.id, row.split) for row in result.rows] == [(" a/1.jpg", "test")]
