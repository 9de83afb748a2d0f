"""Errors for data that cannot be used, and that nothing half-written remains."""

import io
import json
import shutil

import pytest
from PIL import Image

from flowerml.core.errors import FlowermlError
from flowerml.data.examples import Examples
from flowerml.pipeline import adhoc, download
from flowerml.pipeline import extract as extraction
from flowerml.tasks.pipelines import load_pipeline
from tests.support.project import REPOSITORY, Project, set_params

pytestmark = pytest.mark.slow


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), (shade, 255 - shade, 90)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path):
    """A folder of two classes with six pictures each, all different."""
    for label in ("rose", "tulip"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(6):
            (tmp_path / "pictures" / label / f"{number}.jpg").write_bytes(jpeg(20 * number + len(label)))
    return tmp_path / "pictures"


@pytest.fixture
def extract(tmp_path, monkeypatch):
    """Return a function that runs download and extract on a source and returns the report."""
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(source, **data):
        values = {"source": str(source), **data}
        set_params(tmp_path / "params.yaml", {f"flowers.data.{name}": value for name, value in values.items()})
        pipeline = load_pipeline("flowers")
        download.run(pipeline)
        return extraction.run(pipeline)

    return run


def data_files(tmp_path):
    return sorted(path.name for path in (tmp_path / "data").rglob("*")) if (tmp_path / "data").exists() else []


def test_good_folder_is_read(extract, pictures):
    report = extract(pictures)
    assert report["counts"] == {"train": 8, "valid": 2, "test": 2}
    assert report["skipped"] == []


@pytest.mark.parametrize("kind", ["folder", "tar.gz"])
def test_dealt_copies_are_in_one_split(extract, pack, kind):
    files = {
        f"{label}/{n}.jpg": jpeg(10 * n + shade) for label, shade in (("rose", 0), ("tulip", 125)) for n in range(12)
    }
    copies = {f"rose/copy{n}.jpg": files[f"rose/{n}.jpg"] for n in range(12)}
    report = extract(pack(files | copies, kind))
    names = {finding["name"] for finding in report["findings"]}
    assert "duplicate" in names and "leak" not in names
    assert report["counts"]["train"] + report["counts"]["valid"] + report["counts"]["test"] == 36


def test_dealt_copies_of_texts_ignore_case(tmp_path, monkeypatch):
    (tmp_path / "films.csv").write_text(
        "text,label\n"
        + "".join(f"film {n} was {w},{w}\nFilm {n} WAS {w},{w}\n" for n in range(20) for w in ("good", "bad"))
    )
    monkeypatch.chdir(tmp_path)
    pipeline, _ = adhoc.pipeline_from_data("films.csv", None, {}, name="films", root=tmp_path)
    assert "leak" not in {finding["name"] for finding in extraction.run(pipeline)["findings"]}


def test_copies_across_given_splits_are_leaks(extract, pack):
    files = {f"{split}/{n}/{n}.jpg": jpeg(9 * n) for split in ("train", "val", "test") for n in range(2)}
    report = extract(pack(files, "folder"))
    assert report["counts"] == {"train": 2, "valid": 2, "test": 2}
    assert "leak" in {finding["name"] for finding in report["findings"]}


def test_summary_names_classes_and_left_out_files(extract, pictures):
    for number in range(3):
        (pictures / "rose" / f"{number}.xyz").touch()
    lines = extraction.summary(extract(pictures)).splitlines()
    assert lines[:3] == [
        "2 classes; train 8, valid 2, test 2",
        "  rose: train 4, valid 1, test 1",
        "  tulip: train 4, valid 1, test 1",
    ]
    assert lines[3].startswith("left out 3 files: 3 .xyz (such as rose/0.xyz; ")


def test_missing_source_is_refused(extract, tmp_path):
    expected = "flowers.data.source: expected sample, .* a URL or a path; 'nowhere' does not exist"
    with pytest.raises(FlowermlError, match=expected):
        extract("nowhere")
    assert data_files(tmp_path) == []


def test_empty_folder_is_refused(extract, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FlowermlError, match="no examples found; expected one folder per class holding"):
        extract(tmp_path / "empty")
    assert data_files(tmp_path) == ["archive", "category_names.json", "flowers", "split_table.csv"]


def test_single_class_is_refused(extract, pictures):
    shutil.rmtree(pictures / "tulip")
    with pytest.raises(FlowermlError, match=r"only one class \(rose\)"):
        extract(pictures)


def test_class_with_one_picture_is_refused(extract, pictures):
    for path in sorted((pictures / "tulip").iterdir())[1:]:
        path.unlink()
    with pytest.raises(FlowermlError, match=r"class 'tulip' has 1 example; at least 3 are needed"):
        extract(pictures)


def test_files_without_a_picture_are_skipped(extract, pictures):
    (pictures / "rose" / "notes.txt").write_text("roses are red")
    (pictures / "rose" / "7.jpg").write_text("violets are blue")
    (pictures / "tulip" / "8.jpg").write_bytes(jpeg(1)[:300])
    skipped = {skip["id"]: skip["reason"] for skip in extract(pictures)["skipped"]}
    assert set(skipped) == {"rose/notes.txt", "rose/7.jpg", "tulip/8.jpg"}
    assert "not a picture of a known kind" in skipped["rose/7.jpg"]


def test_unreadable_class_leaves_no_table(extract, pictures, tmp_path):
    for path in (pictures / "tulip").iterdir():
        path.write_text("nothing to see")
    with pytest.raises(FlowermlError, match=r"no readable training example of tulip.*6 files were skipped"):
        extract(pictures)
    assert data_files(tmp_path) == ["archive", "category_names.json", "flowers", "split_table.csv"]


def test_class_without_a_name_is_refused(extract, pictures, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps({"rose": "Rosa", "lily": "Lilium"}))
    with pytest.raises(FlowermlError, match=r"no name for 1 of the 2 classes \(tulip\)"):
        extract(pictures, category_names=str(tmp_path / "names.json"))


def test_invalid_names_file_is_refused(extract, pictures, tmp_path):
    for text in ("{", "[1, 2]", '{"rose": 3}'):
        (tmp_path / "names.json").write_text(text)
        with pytest.raises(FlowermlError, match=r"names\.json: (not valid JSON|expected a JSON object)"):
            extract(pictures, category_names=str(tmp_path / "names.json"))


def test_source_is_linked_and_bytes_are_kept(extract, pictures, tmp_path):
    extract(pictures)
    assert (tmp_path / "data/flowers/archive").resolve() == pictures
    raws = {example.id: example.raw for example in Examples(tmp_path / "data/flowers/examples.parquet")}
    assert raws == {f"{path.parent.name}/{path.name}": path.read_bytes() for path in pictures.rglob("*.jpg")}


def test_change_to_sample_keeps_the_folder(extract, pictures, tmp_path):
    extract(pictures)
    extract("sample", sample_per_class=3)
    assert len(list(pictures.rglob("*.jpg"))) == 12
    assert (tmp_path / "data/flowers/archive").is_file()


def test_dvc_sees_a_changed_source(tmp_path, pictures):
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    project.set({"flowers.data.source": str(pictures)})
    project.run("dvc", "repro", "extract@flowers")
    assert "Running" not in project.run("dvc", "repro", "extract@flowers").stdout
    (pictures / "rose" / "9.jpg").write_bytes(jpeg(200))
    assert "Running stage 'extract@flowers'" in project.run("dvc", "repro", "extract@flowers").stdout
    assert len(list(Examples(project.folder / "data/flowers/examples.parquet"))) == 13


def test_stage_error_is_one_line_and_exit_1(tmp_path):
    project = Project(tmp_path)
    project.set({"flowers.train.learning_rate": "fast"})
    process = project.run("python", "-m", "stages.train", "flowers", check=False)
    assert process.returncode == 1
    assert process.stderr == 'error: params.yaml: flowers.train.learning_rate: expected a valid number, found "fast"\n'
