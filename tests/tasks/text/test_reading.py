import json
from types import SimpleNamespace

import pandas as pd
import pytest

from flowerml.core.errors import DataError, InputError
from flowerml.tasks.text.reading import contents, listing, read
from flowerml.tasks.text.sections import Limits

LIMITS = Limits(members=100, member_bytes=10**7, unpacked_bytes=10**9, characters=1_000_000)
COLUMNS = {"text_column": "review", "label_column": "sentiment", "split_column": None, "group_column": None}
SECTION = SimpleNamespace(**COLUMNS, limits=LIMITS)
ROWS = [{"review": "Fine, really", "sentiment": "pos"}, {"review": "Dull.\nVery.", "sentiment": "neg"}]


def write_table(path):
    table = pd.DataFrame(ROWS)
    write = {
        ".csv": lambda: table.to_csv(path, index=False),
        ".tsv": lambda: table.to_csv(path, index=False, sep="\t"),
        ".jsonl": lambda: path.write_text("\n".join(json.dumps(row) for row in ROWS)),
        ".parquet": lambda: table.to_parquet(path),
    }
    write[path.suffix]()
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_table_formats_agree(tmp_path, suffix):
    path = write_table(tmp_path / f"reviews{suffix}")
    rows = listing(path, SECTION).rows
    assert [(row.id, row.label, row.split) for row in rows] == [("row 1", "pos", None), ("row 2", "neg", None)]
    texts = {name: read(raw, SECTION) for name, raw in contents(path, SECTION, {"row 1", "row 2"})}
    assert texts == {"row 1": "Fine, really", "row 2": "Dull.\nVery."}


def test_table_behind_a_link(tmp_path):
    (tmp_path / "archive").symlink_to(write_table(tmp_path / "reviews.csv"))
    assert len(listing(tmp_path / "archive", SECTION).rows) == 2


def test_missing_column_names_columns(tmp_path):
    path = write_table(tmp_path / "reviews.csv")
    section = SimpleNamespace(limits=LIMITS, **COLUMNS | {"text_column": "text"})
    with pytest.raises(
        DataError, match=r"no column 'text'; it has review, sentiment: name one of these with -S data\.text_column"
    ):
        listing(path, section)


def test_table_with_split_column(tmp_path):
    path = tmp_path / "reviews.csv"
    rows = [("a", "pos", "train"), ("b", "neg", "val"), ("c", "pos", "holdout"), ("d", "", "test")]
    pd.DataFrame(rows, columns=["review", "sentiment", "part"]).to_csv(path, index=False)
    section = SimpleNamespace(limits=LIMITS, **COLUMNS | {"split_column": "part"})
    listed = listing(path, section)
    assert [(row.label, row.split) for row in listed.rows] == [("pos", "train"), ("neg", "valid")]
    assert [row["reason"] for row in listed.skipped] == [
        "split 'holdout' is not one of train, training, test, testing, valid, val, validation, dev",
        "no label",
    ]


def test_broken_table_is_refused(tmp_path):
    (tmp_path / "reviews.parquet").write_bytes(b"PAR? no")
    with pytest.raises(DataError, match=r"reviews\.parquet: cannot be read as parquet"):
        listing(tmp_path / "reviews.parquet", SECTION)


def test_unlabelled_imdb_is_skipped(pack):
    names = ("train/pos/1_9.txt", "train/neg/2_1.txt", "train/unsup/3_0.txt", "test/pos/4_8.txt", "train/urls_pos.txt")
    listed = listing(pack({f"aclImdb/{name}": b"A film." for name in names}, "tar.gz"), SECTION)
    assert [(row.label, row.split) for row in listed.rows] == [("pos", "train"), ("neg", "train"), ("pos", "test")]
    assert {"id": "unsup", "reason": "1 texts without a label"} in listed.skipped


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_detected(encoding):
    text = "Un café près de l'opéra, où l'on dîne à toute heure : déjà vu, mais très agréable et drôle."
    assert read(text.encode(encoding), SECTION) == text


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "empty_text"),
        (b" \n\t ", "empty_text"),
        (b"good\0film", "not_a_text"),
        (bytes(range(256)) * 4, "not_a_text"),
        (b"word " * 1_000_000, "text_too_long"),
    ],
)
def test_invalid_text_gives_its_code(raw, code):
    with pytest.raises(InputError) as caught:
        read(raw, SECTION)
    assert caught.value.code == code


def test_russian_in_cp1251_is_read():
    text = "Очень хороший фильм, который стоит посмотреть всей семьей. Актеры играют прекрасно, музыка чудесная. " * 3
    assert read(text.encode("cp1251"), SECTION) == text


def test_table_with_group_column(tmp_path):
    path = tmp_path / "reviews.csv"
    pd.DataFrame([("a", "pos", "ann"), ("b", "neg", "")], columns=["review", "sentiment", "who"]).to_csv(
        path, index=False
    )
    listed = listing(path, SimpleNamespace(limits=LIMITS, **COLUMNS | {"group_column": "who"}))
    assert [row.group for row in listed.rows] == ["ann", None]


def test_long_text_names_the_limit():
    section = SimpleNamespace(limits=LIMITS.model_copy(update={"characters": 5}))
    with pytest.raises(InputError, match="6 characters; at most 5 are read"):
        read(b"a film", section)
