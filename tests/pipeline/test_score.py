"""`flowerml score`: sources of any kind, in pieces, in parts and by shards, with the answers of `predict --out`."""

import csv
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.core.errors import DataError, FlowermlError
from flowerml.core.locks import try_lock
from flowerml.data.examples import Example, write
from flowerml.pipeline import score
from flowerml.pipeline.score import part_folder
from flowerml.pipeline.score.answering import Sight
from flowerml.pipeline.score.pieces import Entry, EntryStretch
from flowerml.pipeline.score.storage import storage
from tests.support.project import REPOSITORY

MODEL = REPOSITORY / "tests/classifier/saved_by_0_1_0"  # of texts, in batches that pad to the longest
WORDS = ("good film", "a dull plot with bad actors, boring to the end", "great", "never made, half a thing", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the same 700 texts as tables, as files and as archives; every fifth is empty."""
    folder = tmp_path_factory.mktemp("sources")
    texts = [f"{WORDS[number % 5]} {'film ' * (number % 11)}" if number % 5 != 4 else "" for number in range(700)]
    table = pa.table({"key": [f"k{n}" for n in range(700)], "review": texts, "stars": [n % 3 for n in range(700)]})
    pq.write_table(table, folder / "a.parquet", row_group_size=150)
    with (folder / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        writer.writerows(zip(*table.to_pydict().values(), strict=True))
    (folder / "texts").mkdir()
    for number, text in enumerate(texts[:300]):
        (folder / f"texts/{number:04d}.txt").write_text(text)
    with tarfile.open(folder / "texts.tar.gz", "w:gz") as tar, zipfile.ZipFile(folder / "texts.zip", "w") as archive:
        for number in range(300):
            tar.add(folder / f"texts/{number:04d}.txt", f"texts/{number:04d}.txt")
            archive.write(folder / f"texts/{number:04d}.txt", f"texts/{number:04d}.txt")
    (folder / "parts").mkdir()
    for number in range(3):
        pq.write_table(table.slice(300 * number, 300), folder / f"parts/part-{number}.parquet")
    return folder


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """Return a function that runs `flowerml score` among the sources, and returns its exit code and output."""
    monkeypatch.chdir(folder)

    def run(*arguments):
        given = [str(argument) for argument in arguments]
        result = CliRunner().invoke(
            app, [given[0] if given[0] == "predict" else "score", *given[given[0] == "predict" :]]
        )
        return result.exit_code, result.output

    return run


def answered(run, source, out, *more):
    """Score a source of unreadable texts among others, and return the bytes of the answers."""
    code, output = run(source, "--model", MODEL, "--out", out, *more)
    assert code == 1 and "could not be read (column error)" in output, output
    return out.read_bytes()


COLUMNS = ("--column", "review", "--id-column", "key", "--keep", "stars")


def test_answers_are_those_of_predict(run, tmp_path):
    first = answered(run, "a.parquet", tmp_path / "a.csv", "--column", "review")
    run("predict", "a.parquet", "--text-column", "review", "--model", MODEL, "--out", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == first
    second = answered(run, "texts", tmp_path / "c.csv")
    run("predict", "texts", "--model", MODEL, "--out", tmp_path / "d.csv")
    assert (tmp_path / "d.csv").read_bytes() == second


def test_columns_are_carried_along(run, tmp_path):
    first = answered(run, "a.parquet", tmp_path / "a.jsonl", *COLUMNS)
    assert answered(run, "a.csv", tmp_path / "b.jsonl", *COLUMNS) == first
    answered(run, "a.parquet", tmp_path / "c.parquet", *COLUMNS, "--top-k", 9)
    rows = pq.read_table(tmp_path / "c.parquet").to_pylist()
    assert [row["row"] for row in rows] == list(range(1, 701))
    assert {(row["input"], row["stars"]) for row in rows} == {(f"k{n}", str(n % 3)) for n in range(700)}
    assert rows[4]["error"] == "empty_text" and rows[4]["label_2"] is None
    assert all(row["probability"] + row["probability_2"] == pytest.approx(1) for row in rows if row["error"] is None)


@pytest.mark.parametrize("archive", ["texts.tar.gz", "texts.zip"])
def test_archive_is_read_like_its_folder(run, tmp_path, archive):
    assert answered(run, archive, tmp_path / "b.csv") == answered(run, "texts", tmp_path / "a.csv")


def test_folder_of_tables_is_one_table(run, tmp_path):
    first = answered(run, "a.parquet", tmp_path / "a.csv", *COLUMNS)
    assert answered(run, "parts", tmp_path / "b.csv", *COLUMNS) == first


def test_seven_shards_give_the_bytes_of_one(run, tmp_path):
    expected = answered(run, "a.parquet", tmp_path / "a.parquet", *COLUMNS)
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    run("a.parquet", "--model", MODEL, "--out", f"{whole}/", *COLUMNS)
    for number in (3, 1, 7, 2, 6, 4):
        run("a.parquet", "--model", MODEL, "--out", f"{shards}/", *COLUMNS, "--shard", f"{number}/7")
    assert "1 of 7 shards have not finished (5); run them: --shard 5/7" in run(shards, "--join")[1]
    run("a.parquet", "--model", MODEL, "--out", f"{shards}/", *COLUMNS, "--shard", "5/7")
    assert run(shards, "--join", "--out", tmp_path / "b.parquet") == (0, f"{tmp_path / 'b.parquet'}: 700 rows\n")
    assert (tmp_path / "b.parquet").read_bytes() == expected
    assert contents(shards) == contents(whole) and len(contents(whole)) == 4


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_folder_goes_on_where_it_was_killed(run, tmp_path):
    out = tmp_path / "out"
    run("a.parquet", "--model", MODEL, "--out", f"{out}/", *COLUMNS)
    before = contents(out)
    (out / "part-00001.parquet").unlink()
    (out / "_score.json").write_text((out / "_score.json").read_text().replace('"rows": 700', '"rows": null'))
    code, output = run("a.parquet", "--model", MODEL, "--out", f"{out}/", *COLUMNS)
    assert (code, "resumed after 444 rows" in output) == (1, True)
    assert contents(out) == before


def test_other_answers_are_started_anew_but_not_by_a_shard(run, tmp_path):
    out = tmp_path / "out"
    run("a.parquet", "--model", MODEL, "--out", f"{out}/", *COLUMNS)
    code, output = run("a.parquet", "--model", MODEL, "--out", f"{out}/", "--column", "review", "--shard", "1/2")
    assert code == 1 and "holds answers of another model, source or options" in output
    _, output = run("a.parquet", "--model", MODEL, "--out", f"{out}/", "--column", "review")
    assert "resumed" not in output
    assert "stars" not in pq.read_schema(out / "part-00000.parquet").names


def test_strange_folder_is_left_alone(run, tmp_path):
    (tmp_path / "notes.txt").touch()
    code, output = run("a.parquet", "--model", MODEL, "--out", tmp_path, "--column", "review")
    assert code == 1 and "expected an empty folder or one of answers, found notes.txt" in output


def test_two_commands_do_not_write_one_folder(run, tmp_path):
    with try_lock(tmp_path / ".score.lock"):
        code, output = run("a.parquet", "--model", MODEL, "--out", f"{tmp_path}/", "--column", "review")
    assert code == 1 and "another command is writing it" in output


def test_command_stops_where_another_has_begun(tmp_path):
    parts = storage(str(tmp_path / "out"))
    with part_folder.opened(parts, ("row", "error"), {"model": 1}) as first:
        first._rows = [(1, None)]
        parts.write("_score.json", lambda path: path.write_text('{"part": 256, "fields": ["error"]}'))
        with pytest.raises(FlowermlError, match="another command has begun others in it"):
            first.finish(1)


@pytest.mark.parametrize("content", ["", "[]", '{"part": 0, "fields": ["error"]}', '{"part": 256, "fields": [1]}'])
def test_damaged_manifest_is_one_line(run, tmp_path, content):
    (tmp_path / "_score.json").write_text(content)
    code, output = run(tmp_path, "--join")
    assert code == 1 and "_score.json is damaged; remove the folder" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none", "--out", "x.csv"), "none: does not exist"),
        (("a.parquet", "--out", "x.csv", "--column", "revue"), "no column 'revue'; it has key, review, stars"),
        (("a.csv", "--out", "x.csv", "--column", "review", "--keep", "name_2"), "--keep name_2: the answers have a"),
        (("a.csv", "--out", "x/", "--shard", "8/7"), "--shard: expected 1/7 to 7/7; found 8/7"),
        (("a.csv", "--out", "x/", "--shard", "1/-7"), "--shard: expected a number and a count, such as 3/16"),
        (("a.csv", "--out", "x.csv", "--shard", "1/7"), "shards write the parts of one folder"),
        (("a.csv", "--out", "x.txt"), "expected a file ending in .csv, .jsonl, .parquet"),
        (("a.csv", "--out", "no/x.csv"), "no: no such folder"),
        (("parts", "--out", "parts/x/"), "lies in the source parts"),
        (("parts/part-0.parquet", "--join"), "expected a folder, found a file"),
        (("ftps://host/a.zip", "--out", "x.csv"), "ftps:// is not a scheme that can be read"),
        (("a.csv", "--out", "https://host/x.csv"), "nothing can be written there"),
    ],
)
def test_mistakes_are_one_line(run, arguments, message):
    model = () if "--join" in arguments else ("--model", MODEL)
    code, output = run(*arguments, *model)
    line = next(line for line in output.splitlines() if line.startswith("error: "))
    assert code == 1 and message in line


def test_damaged_parquet_is_one_line(run, tmp_path):
    (tmp_path / "damaged.parquet").write_bytes(bytes(range(100)))
    code, output = run(tmp_path / "damaged.parquet", "--out", "x.csv", "--model", MODEL)
    assert code == 1 and "damaged.parquet: cannot be read as parquet" in output
    assert run("a.parquet", "--out", f"{tmp_path}/whole/", "--column", "review", "--model", MODEL)[0] < 2
    part = next((tmp_path / "whole").glob("part-*.parquet"))
    part.write_bytes(bytes(range(100)))
    code, output = run(part.parent, "--join", "--out", "x.csv")
    assert code == 1 and f"{part.name} is damaged" in output


def test_worker_that_does_not_see_the_source_says_so(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"1234")
    sight = Sight.of(path)
    sight.check()
    path.write_bytes(b"12345")
    with pytest.raises(DataError, match="does not see this source"):
        sight.check()


def test_name_that_is_not_unicode_is_escaped(tmp_path):
    from flowerml import Classifier
    from flowerml.engine.executors import Place

    entries = [Entry("a\udcff.txt", "good", ("\udcff",))]
    for suffix in score.formats.FORMATS:
        score.score(
            Classifier.load(MODEL),
            lambda: iter([EntryStretch(iter(entries))]),
            str(tmp_path / f"a{suffix}"),
            identity={},
            place=Place(),
            keep=("more",),
        )
    (row,) = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert (row["input"], row["more"]) == (r"a\udcff.txt", r"\udcff")


def test_example_table_is_read_by_its_own_columns(run, tmp_path):
    examples = [Example(f"{number}.txt", "test", "pos", f"good film {number}") for number in range(3)]
    write(tmp_path / "examples.parquet", examples, raw=str)
    code, _ = run(tmp_path / "examples.parquet", "--model", MODEL, "--keep", "label", "--out", tmp_path / "a.csv")
    assert code == 1  # the answers have a column of this name
    code, _ = run(tmp_path / "examples.parquet", "--model", MODEL, "--keep", "split", "--out", tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [(row["input"], row["split"], row["error"]) for row in csv.DictReader(file)] == [
            (f"{number}.txt", "test", "") for number in range(3)
        ]
