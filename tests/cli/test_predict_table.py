"""`flowerml predict TABLE`: a table stands for its rows, and --out refuses what it cannot do."""

import os

import pytest
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.cli.inputs import Stdin, TableColumns, expanded
from flowerml.core.errors import DataError, InputError
from flowerml.pipeline.score.folders import state
from flowerml.tasks.registry import TASKS


def rows(path, columns=None):
    return [(item.name, item.raw(TASKS["text"])) for item in expanded([str(path)], TASKS["text"], Stdin(), columns)]


def test_table_stands_for_its_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,review\na1,good film\na2,\n")
    assert rows(path, TableColumns("review")) == [("row 1", "good film"), ("row 2", "")]
    assert rows(path, TableColumns("review", "id")) == [("a1", "good film"), ("a2", "")]
    assert rows(path, TableColumns(1))[0] == ("row 1", "review")


def test_unusable_row_is_an_error_of_its_own(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\ngood, really,pos\ndull,neg\n")
    (_, error), (_, text) = rows(path)
    assert isinstance(error, InputError)
    assert (error.code, text) == ("unusable_row", "dull")


def test_swallowed_rows_are_found_by_the_label(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"good,pos\ndull,neg\nfine",pos\nbad,neg\n')
    assert len(rows(path, TableColumns(label="label"))) == 4


def test_missing_column_names_the_option(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("review,stars\ngood,5\n")
    with pytest.raises(DataError, match=r"it has review, stars: name one of these with --text-column=NAME"):
        rows(path)


@pytest.mark.parametrize("options", [["--json"], ["--top-k", "2"], ["--plot", "a.png"]])
def test_out_refuses_options_of_printing(options):
    result = CliRunner().invoke(app, ["predict", "a.csv", "--out", "answers.csv", *options])
    assert result.exit_code == 2


def test_state_follows_the_contents(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\ngood\n")
    before = state(path), state(tmp_path)
    os.utime(path, ns=(1, 1))
    assert (state(path) != before[0], state(tmp_path) != before[1]) == (True, True)


def test_state_of_a_folder_is_that_of_its_inputs(tmp_path):
    (tmp_path / "a.txt").write_text("good")
    before = state(tmp_path, TASKS["text"])
    (tmp_path / "answers.csv.part").touch()
    assert state(tmp_path, TASKS["text"]) == before
    (tmp_path / "b.txt").touch()
    assert state(tmp_path, TASKS["text"]) != before
