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
    """Write twelve pictures of each of two species, one folder each."""
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


def test_good_data_have_no_findings(pictures):
    result = check(pictures)
    assert result.exit_code == 0, result.output
    classes = [f"  {name}: train 8, valid 2, test 2" for name in sorted(SPECIES[:2])]
    assert result.stdout.splitlines() == ["2 classes; train 16, valid 4, test 4", *classes, "no findings"]


def test_left_out_files_are_named(pictures):
    (pictures / "notes.xyz").touch()
    (pictures / SPECIES[0] / "linked").symlink_to(Path.cwd())
    line = next(line for line in check(pictures).stdout.splitlines() if line.startswith("left out 2 files: "))
    assert "1 .xyz (such as notes.xyz; " in line and "outside the source" in line


def test_findings_in_table_and_page(pictures):
    spoil(pictures)
    result = check(pictures, "--html", "page.html")
    assert result.exit_code == 0, result.output
    assert "conflicting_label" in result.stdout and f"{SPECIES[1]}/again.jpg" in result.stdout
    assert "data:image/jpeg;base64," in Path("page.html").read_text()
    assert sorted(path.name for path in Path().iterdir()) == ["garden", "page.html"]


def test_json_and_fail_on(pictures):
    spoil(pictures)
    result = check(pictures, "--json", "--fail-on", "conflicting_label")
    assert result.exit_code == 1
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    conflict = findings["conflicting_label"]
    assert (conflict["severity"], conflict["count"]) == ("error", 2)
    assert conflict["groups"] == [[f"{SPECIES[0]}/0.jpg", f"{SPECIES[1]}/again.jpg"]]
    assert "error: conflicting_label: 2 examples with the same content under two labels" in result.stderr


def test_fail_on_in_params(pictures):
    spoil(pictures)
    assert check(pictures, "--set", "data.checks.fail_on=[error]").exit_code == 1


def test_unknown_finding_is_refused():
    result = check("nowhere", "--fail-on", "dupliacte")
    assert result.exit_code == 2
    assert "did you mean 'duplicate'?" in " ".join(result.stderr.replace("│", " ").split())


def test_table_of_texts(folder):
    rows = [f"{word} film number {number} of this year,{word}" for word in ("good", "bad") for number in range(12)]
    (folder / "films.csv").write_text("\n".join(["review,kind", *rows, rows[0], "Fine,good"]))
    columns = ("--set", "data.text_column=review", "--set", "data.label_column=kind")
    report = json.loads(check("films.csv", *columns, "--json").stdout)
    ids = {finding["name"]: finding["ids"] for finding in report["findings"]}
    assert ids["too_short"] == ["row 26"]
    assert sorted([*ids.get("duplicate", []), *ids.get("leak", [])]) == ["row 1", "row 25"]


def test_example_table_with_encodings(reproduced):
    table = reproduced.folder / "data/flowers/examples.parquet"
    report = json.loads(check(table, "--json").stdout)
    beside = json.loads(table.with_name("encoded_checks.json").read_text())
    assert report["findings"] == beside["findings"]
    assert report["counts"] == json.loads(table.with_name("checks.json").read_text())["counts"]
