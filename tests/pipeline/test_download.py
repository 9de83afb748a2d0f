import csv
import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import Flowers102

from flowerml.core import files
from flowerml.core.errors import DataError
from flowerml.data import catalogue
from flowerml.data.catalogue import PUBLISHED
from flowerml.data.split_table import split_table
from flowerml.pipeline import download, extract
from flowerml.tasks.pipelines import load_pipeline
from tests.support.file_server import serving
from tests.support.project import REPOSITORY, set_params


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    """Return a function that downloads for a pipeline with these `data` parameters, and returns its paths."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, **values: object):
        Path("params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
        set_params(
            Path("params.yaml"),
            {"reviews.data.category_names": None, **{f"{name}.data.{k}": v for k, v in values.items()}},
        )
        pipeline = load_pipeline(name)
        download.run(pipeline)
        return pipeline.paths

    return run


def test_catalogue_agrees_with_torchvision():
    published = PUBLISHED["flowers102"]
    ours = {Path(file.url).name: file.checksum for file in (published.archive, *published.extra_files.values())}
    assert ours == {name: f"md5:{md5}" for name, md5 in Flowers102._file_dict.values()}
    assert published.archive.url.startswith(Flowers102._download_url_prefix)


def test_url_is_downloaded_once(fetch, pack):
    content = pack({"a/1.jpg": b"1", "b/2.jpg": b"2"}, "zip").read_bytes()
    with serving({"pictures.zip": content}) as server:
        url = server.url("pictures.zip")
        paths = fetch("flowers", source=url)
        assert paths.archive.read_bytes() == content
        before = len(server.requests)
        assert fetch("reviews", source=url).archive.resolve() == paths.archive.resolve()
    assert paths.archive.resolve().is_relative_to(Path("data/downloads").resolve())
    assert [request.headers.get("If-None-Match") is not None for request in server.requests[before:]] == [True]


def test_unreachable_server_has_remedies(fetch, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.01)
    with pytest.raises(DataError) as caught:
        fetch("flowers", source="http://127.0.0.1:9/pictures.zip")
    message = str(caught.value)
    assert "http://127.0.0.1:9/pictures.zip" in message
    assert "data/downloads/127.0.0.1" in message
    assert "or set flowers.data.source to sample or to a path" in message
    assert not Path("data/flowers/archive").exists()


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def oxford(pack, tmp_path, monkeypatch):
    """Yield a server with six pictures in Oxford's layout; the catalogue has their checksums."""
    archive = pack({f"jpg/image_{n:05d}.jpg": picture(n) for n in range(1, 7)}, "tar.gz")
    savemat(tmp_path / "labels.mat", {"labels": np.array([[1, 1, 1, 2, 2, 2]], dtype=np.uint8)})
    ids = {"trnid": np.array([[1, 4]]), "valid": np.array([[2, 5]]), "tstid": np.array([[6, 3]])}
    savemat(tmp_path / "splits.mat", ids)
    published = PUBLISHED["flowers102"]
    contents = {
        published.archive.url: archive.read_bytes(),
        published.extra_files["imagelabels"].url: (tmp_path / "labels.mat").read_bytes(),
        published.extra_files["setid"].url: (tmp_path / "splits.mat").read_bytes(),
    }

    def with_checksum(file: catalogue.File) -> catalogue.File:
        return replace(file, checksum=f"md5:{hashlib.md5(contents[file.url]).hexdigest()}")

    extra_files = {name: with_checksum(file) for name, file in published.extra_files.items()}
    monkeypatch.setitem(
        PUBLISHED, "flowers102", replace(published, archive=with_checksum(published.archive), extra_files=extra_files)
    )
    with serving({url.removeprefix("https://"): content for url, content in contents.items()}) as server:
        monkeypatch.setenv(download.MIRROR, server.url(""))
        yield server


def test_flowers102_has_official_split_table(fetch, oxford):
    paths = fetch("flowers", source="flowers102")
    with paths.split_table.open(newline="") as file:
        rows = {row["file"]: (row["label"], row["split"]) for row in csv.DictReader(file)}
    assert rows["image_00001.jpg"] == ("1", "train")
    assert rows["image_00005.jpg"] == ("2", "valid")
    assert rows["image_00006.jpg"] == ("2", "test")
    assert files.read_json(paths.category_names)["1"] == "pink primrose"


def test_flowers102_keeps_official_split(fetch, oxford):
    fetch("flowers", source="flowers102")
    report = extract.run(load_pipeline("flowers"))
    assert report["classes"] == {split: {"1": 1, "2": 1} for split in ("train", "valid", "test")}
    assert report["warnings"] == []


def test_published_set_of_other_kind_is_refused(fetch):
    with pytest.raises(DataError, match=r"reviews.data.source: 'flowers102' is for a pipeline of kind image"):
        fetch("reviews", source="flowers102")


def test_misspelt_source_gets_a_suggestion(fetch):
    with pytest.raises(
        DataError, match=r"sample, flowers102, flowers102-notebook, a URL or a path \(did you mean 'flowers102'\?\)"
    ):
        fetch("flowers", source="flower102")


def test_users_split_table_is_linked(fetch, tmp_path):
    (tmp_path / "mine.csv").write_text("file,split\na.jpg,train\n")
    paths = fetch("flowers", **{"split.table": "mine.csv", "sample_per_class": 4})
    assert paths.split_table.resolve() == tmp_path / "mine.csv"
    assert split_table(paths.split_table).rows == {"a.jpg": {"file": "a.jpg", "split": "train"}}


def test_no_split_table_by_default(fetch):
    path = fetch("flowers", sample_per_class=4).split_table
    assert split_table(path) is None
    assert path.stat().st_size > 0  # DVC warns of empty files


@pytest.mark.parametrize("content", ["", "file,split,group,label\n"])
def test_split_table_without_rows(tmp_path, content):
    path = tmp_path / "split_table.csv"
    path.write_text(content)  # empty: written by an earlier version
    assert (split_table(path) is None) == (content == "")
