"""`flowerml check`, at the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.tasks.image.sample import SPECIES, jpeg


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    return tmp_path


@pytest.fixture
def pictures(folder):
    """Twelve pictures of each of two species, one folder each."""
    for species in SPECIES[:2]:
        (folder / "garden" / species).mkdir(parents=True)
        for number in range(12):
            (folder / "garden" / species / f"{number}.jpg").write_bytes(jpeg(species, number, 5))
    return Path("garden")


def check(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def spoil(pictures):
    """Put a picture under both labels."""
    first, second = (pictures / species for species in SPECIES[:2])
    (second / "again.jpg").write_bytes((first / "0.jpg").read_bytes())


def test_good_data_are_passed_in_one_word(pictures):
    result = check(pictures)
    assert result.exit_code == 0, result.output
    assert result.stdout == "2 classes; train 16, valid 4, test 4\nnothing was found\n"


def test_what_is_found_is_told_in_a_table_and_on_a_page(pictures):
    spoil(pictures)
    result = check(pictures, "--html", "page.html")
    assert result.exit_code == 0, result.output
    assert "conflicting_label" in result.stdout and f"{SPECIES[1]}/again.jpg" in result.stdout
    assert "data:image/jpeg;base64," in Path("page.html").read_text()
    assert sorted(path.name for path in Path().iterdir()) == ["garden", "page.html"]


def test_json_is_for_programs_and_fail_on_ends_with_1(pictures):
    spoil(pictures)
    result = check(pictures, "--json", "--fail-on", "conflicting_label")
    assert result.exit_code == 1
    found = {one["name"]: one for one in json.loads(result.stdout)["findings"]}["conflicting_label"]
    assert (found["severity"], found["count"]) == ("error", 2)
    assert found["groups"] == [[f"{SPECIES[0]}/0.jpg", f"{SPECIES[1]}/again.jpg"]]
    assert "error: conflicting_label: 2 examples with the same content under two labels" in result.stderr


def test_what_params_name_stops_as_well(pictures):
    spoil(pictures)
    assert check(pictures, "--set", "data.checks.fail_on=[error]").exit_code == 1


def test_an_unknown_name_is_refused_before_anything_is_read():
    result = check("nowhere", "--fail-on", "dupliacte")
    assert result.exit_code == 2
    assert "did you mean 'duplicate'?" in " ".join(result.stderr.replace("│", " ").split())


def test_a_table_of_texts_is_checked_by_its_columns(folder):
    rows = [f"{word} film number {number} of this year,{word}" for word in ("good", "bad") for number in range(12)]
    (folder / "films.csv").write_text("\n".join(["review,kind", *rows, rows[0], "Fine,good"]))
    columns = ("--set", "data.text_column=review", "--set", "data.label_column=kind")
    found = {one["name"]: one["ids"] for one in json.loads(check("films.csv", *columns, "--json").stdout)["findings"]}
    assert found["too_short"] == ["row 26"]
    assert sorted([*found.get("duplicate", []), *found.get("leak", [])]) == ["row 1", "row 25"]


def test_an_example_table_is_checked_with_its_encodings(reproduced):
    table = reproduced.folder / "data/flowers/examples.parquet"
    report = json.loads(check(table, "--json").stdout)
    beside = json.loads(table.with_name("encoded_checks.json").read_text())
    assert report["findings"] == beside["findings"]
    assert report["counts"] == json.loads(table.with_name("checks.json").read_text())["counts"]
