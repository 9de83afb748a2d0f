"""CSV: quotation marks, separators, encodings and headers are told apart, and no row vanishes."""

import gzip

import pytest

from flowerml.core.errors import DataError
from flowerml.data.tables import Column, MissingColumnError
from tests.data.tables.conftest import pairs

GOOD = [("good film", "pos"), ("dull film", "neg"), ("fine film", "pos"), ("bad film", "neg")]
NUMBERED = [Column("text", 1, "--text"), Column("label", 0, "--label")]


def rows(separator=",", *, header="text,label", changed=None):
    """Return GOOD as a table, with the texts at some places changed."""
    texts = {**dict(enumerate(text for text, _ in GOOD)), **(changed or {})}
    lines = [f"{texts[place]}{separator}{label}" for place, (_, label) in enumerate(GOOD)]
    return "\n".join([header.replace(",", separator), *lines, ""])


@pytest.mark.parametrize(
    "changed",
    [
        {1: '"dull film'},  # never closed
        {0: '"good film', 2: '"fine film'},  # closed in the middle of a text
        {0: '"good film', 2: 'fine "film"'},
        {0: '"good film', 2: 'fine film"'},  # closed as a quoted text would be: two rows look like one
    ],
)
@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_lonely_quote_swallows_no_row(opened, changed, name, separator):
    table = opened(name, rows(separator, changed=changed).encode())
    expected = [(changed.get(place, text), label) for place, (text, label) in enumerate(GOOD)]
    assert pairs(table) == expected
    assert "quotation mark" in table.warnings[0]


def test_label_first_swallows_no_row(opened):
    table = opened("a.tsv", b'label\ttext\npos\t"good\nneg\tdull\npos\tfine"\nneg\tbad\n')
    assert pairs(table) == [('"good', "pos"), ("dull", "neg"), ('fine"', "pos"), ("bad", "neg")]


def test_unrepairable_quote_is_refused(opened):
    content = rows(changed={0: '"good, film"', 1: '"dull film', 3: 'bad film"'}).encode()
    with pytest.raises(DataError) as caught:
        opened("a.csv", content)
    assert str(caught.value).endswith(
        "a.csv: line 3 has a quotation mark that swallows the rows up to the next one; write each quotation mark in a "
        'quoted text twice (""), or save the table as .jsonl'
    )


def test_texts_of_many_lines_are_read(opened):
    table = opened("a.csv", b'text,label\n"good,\n""fine"",\nand more",pos\ndull,neg\n')
    assert pairs(table) == [('good,\n"fine",\nand more', "pos"), ("dull", "neg")]
    assert table.warnings == []


def test_repaired_cells_lose_their_quotes(opened):
    table = opened("a.csv", b'text,label\n"so ""good""",pos\n"dull,neg\n')
    assert pairs(table) == [('so "good"', "pos"), ('"dull', "neg")]


def test_long_fields_are_read(opened):
    assert pairs(opened("a.csv", b"text,label\n" + b"word " * 50_000 + b",pos\n")) == [("word " * 50_000, "pos")]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_separators_are_told_apart(opened, separator, name):
    assert pairs(opened(name, rows(separator).encode())) == GOOD


def test_separator_without_header(opened):
    content = "".join(f"{label};{text}, indeed\n" for text, label in GOOD).encode()
    assert pairs(opened("a.csv", content, NUMBERED)) == [(f"{text}, indeed", label) for text, label in GOOD]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_told_apart(opened, encoding):
    text = "un café près de l'opéra, déjà vu"
    table = opened("a.csv", f'text,label\n"{text}",pos\n'.encode(encoding))
    assert pairs(table) == [(text, "pos")]
    assert len(table.warnings) == (encoding == "cp1252")


def test_late_accents_are_seen(opened):
    content = rows().encode() * 1 + b"plain film,pos\n" * 200_000 + "un café près de l'opéra,pos\n".encode("cp1252")
    assert pairs(opened("a.csv", content))[-1] == ("un café près de l'opéra", "pos")


def test_damaged_utf8_is_no_latin1(opened):
    content = "text,label\nun café,pos\nl'opéra très drôle,neg\n".encode() + b"br\xfbl\xe9e,pos\n"
    with pytest.raises(DataError, match="line 4 is not UTF-8, although other lines are"):
        opened("a.csv", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04more", "it is a zip or an Excel workbook"),
        (b"PAR1more", "it is Parquet"),
        (b"<!DOCTYPE html><p>log in", "a web page, not a table"),
        (b"text,label\na\0b,pos\n", "binary data, not a text"),
        (b"\n\n", "is empty"),
        (b"", "is empty"),
        (b"text,label,text\na,b,c\n", "2 columns are named 'text'"),
    ],
)
def test_no_table_is_refused(opened, content, message):
    with pytest.raises(DataError, match=message):
        opened("a.csv", content)


def test_names_are_trimmed(opened):
    assert pairs(opened("a.csv", b'text , label\n"good, really", pos\n')) == [("good, really", "pos")]


def test_spaces_after_separators(opened):
    assert pairs(opened("a.csv", b'label, text\npos, "good, really"\n')) == [("good, really", "pos")]


def test_no_header_by_numbers(opened):
    content = "".join(f"{label}\t{text}\n" for text, label in GOOD).encode()
    assert pairs(opened("a.tsv", content, NUMBERED)) == GOOD


def test_numbers_of_pandas_are_a_header(opened):
    assert pairs(opened("a.csv", b"0,1\npos,good\n", NUMBERED)) == [("good", "pos")]


def test_number_too_high_is_refused(opened):
    with pytest.raises(MissingColumnError, match="no column 1; it has 1, from 0"):
        opened("a.csv", b"good\nfine\n", NUMBERED)


def test_names_and_numbers_are_not_mixed(opened):
    with pytest.raises(DataError, match="--label=label is a name"):
        opened("a.csv", rows().encode(), [NUMBERED[0], Column("label", "label", "--label")])


def test_other_of_two_columns_is_the_label(opened):
    table = opened("a.csv", b"text,stars\ngood,5\n")
    assert pairs(table) == [("good", "5")]
    assert "(--label=stars)" in table.warnings[0]


def test_one_of_three_columns_is_not_guessed(opened):
    with pytest.raises(MissingColumnError) as caught:
        opened("a.csv", b"text,stars,year\ngood,5,1999\n")
    assert str(caught.value).endswith(
        "a.csv: no column 'label'; it has text, stars, year: name one of these with --label=NAME, or give its number "
        "from 0 where the first line is no header"
    )


def test_rows_of_other_lengths_are_reported(opened):
    table = opened("a.csv", b"text,label\ngood, really,pos\ndull,neg\nfine\n")
    assert [record.problem for record in table.records()] == [
        "wrong number of fields, 3 instead of 2 (line 2)",
        None,
        "wrong number of fields, 1 instead of 2 (line 4)",
    ]
    assert "2 rows do not have the 2 fields" in table.warnings[0]


def test_no_row_of_the_length_is_refused(opened):
    with pytest.raises(DataError, match="no row has 2 fields"):
        opened("a.csv", b"text,label\ngood, really,pos\n")


def test_empty_fields_may_follow(opened):
    assert pairs(opened("a.csv", b"text,label\ngood,pos,,\n\ndull,neg\n")) == [("good", "pos"), ("dull", "neg")]


def test_packed_table_is_read(opened):
    assert pairs(opened("a.csv.gz", gzip.compress(rows().encode()))) == GOOD


def test_cut_short_table_is_refused(opened):
    with pytest.raises(DataError, match="damaged or cut short"):
        opened("a.csv.gz", gzip.compress(rows().encode())[:-12])
