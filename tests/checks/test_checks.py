"""One of every defect, planted among drawn pictures and composed texts: each is found by its name, on its file."""

import io
import json
import random
import shutil

import numpy as np
import pytest
from PIL import Image

from flowerml.checks import classes, labels
from flowerml.core.errors import ParamsError
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Key
from flowerml.data.findings import ChecksError
from flowerml.data.layout import Row
from flowerml.pipeline import check, download, extract
from flowerml.tasks.image.sample import SPECIES, jpeg
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tasks.registry import TASKS
from flowerml.tasks.text.sample import compose
from tests.support.project import REPOSITORY, set_params

ROSE, TULIP = SPECIES[:2]
HOSTILE = "<script>alert(1)</script>.jpg"


@pytest.fixture(scope="module")
def drawn():
    """Twelve pictures of each of two species, in splits."""
    splits = ["train"] * 10 + ["valid", "test"]
    return {
        f"{split}/{species}/{number}.jpg": jpeg(species, number, 7)
        for species in (ROSE, TULIP)
        for number, split in enumerate(splits)
    }


@pytest.fixture(scope="module")
def composed():
    """Twelve reviews of each of two classes, in splits."""
    splits = ["train"] * 10 + ["valid", "test"]
    return {
        f"{split}/{label}/{number}.txt": compose(label, rng=random.Random(f"{label}{number}")).encode()
        for label in ("pos", "neg")
        for number, split in enumerate(splits)
    }


@pytest.fixture
def fetched(tmp_path, monkeypatch, pack):
    """A pipeline whose source is a folder of these files, already downloaded."""

    def fetch(files, name="flowers", **data):
        shutil.copy(REPOSITORY / "params.yaml", tmp_path)
        monkeypatch.chdir(tmp_path)
        values = {"source": str(pack(files, "folder")), "category_names": None, **data}
        set_params(tmp_path / "params.yaml", {f"{name}.data.{key}": value for key, value in values.items()})
        pipeline = load_pipeline(name)
        download.run(pipeline)
        return pipeline

    return fetch


@pytest.fixture
def findings(fetched):
    """The ids of the findings in these files, by the finding's name."""

    def check_files(files, name="flowers", **data):
        report = check.from_pipeline(fetched(files, name, **data)).report
        return {finding["name"]: finding["ids"] for finding in report["findings"]}

    return check_files


def encode(picture, kind="JPEG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(raw):
    return Image.open(io.BytesIO(raw))


def rotate(raw, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(decode(raw), exif=exif)


def planted_pictures(drawn):
    """Return file -> (content, name of its defect), each defect in a picture of its own."""
    fresh = (jpeg(ROSE, number, 8) for number in range(100))
    cut = next(fresh)
    large = decode(next(fresh))
    grey = np.asarray(decode(next(fresh)).convert("L")).astype(np.uint16) * 256
    return {
        "cut.jpg": (cut[: len(cut) // 2], "unreadable"),
        "nothing.jpg": (b"", "unreadable"),
        "text.jpg": (b"Roses are red.", "wrong_type"),
        "page.jpg": (b"<!doctype html><title>Not found</title>", "wrong_type"),
        "png.jpg": (encode(decode(next(fresh)), "PNG"), "wrong_type"),
        "gif.jpg": (encode(decode(next(fresh)).convert("L"), "GIF"), "wrong_type"),
        "small.jpg": (encode(decode(next(fresh)).resize((20, 24))), "tiny"),
        "huge.png": (encode(large.resize((700, 700)), "PNG"), "enormous"),
        "strip.jpg": (encode(decode(next(fresh)).resize((600, 60))), "extreme_shape"),
        "palette.png": (encode(decode(next(fresh)).convert("P"), "PNG"), "odd_mode"),
        "cmyk.jpg": (encode(decode(next(fresh)).convert("CMYK")), "odd_mode"),
        "sixteen.png": (encode(Image.fromarray(grey), "PNG"), "odd_mode"),
        "alpha.png": (encode(decode(next(fresh)).convert("RGBA"), "PNG"), "odd_mode"),
        "lying.jpg": (rotate(next(fresh), 6), "rotated"),
        HOSTILE.replace("/", "|"): (b"violets are blue", "wrong_type"),
    }


def test_good_pictures_have_no_findings(findings, drawn):
    assert findings(drawn) == {}


def test_each_picture_defect_is_found(findings, drawn):
    planted = planted_pictures(drawn)
    files = {f"train/{ROSE}/{name}": content for name, (content, _) in planted.items()}
    ids = findings(drawn | files, checks={**CHECKS["flowers"], "largest_side": 650})
    expected = {(name, f"train/{ROSE}/{file}") for file, (_, name) in planted.items()}
    expected.add(("odd_mode", f"train/{ROSE}/gif.jpg"))  # a GIF has a palette
    assert {(name, id) for name, group in ids.items() for id in group} == expected


def test_picture_copies_are_named_by_place(findings, drawn):
    first, second, third, fourth = (jpeg(ROSE, number, 9) for number in range(4))
    files = {
        f"train/{ROSE}/a.jpg": first,
        f"train/{ROSE}/b.jpg": first,
        f"train/{ROSE}/c.jpg": second,
        f"test/{ROSE}/d.jpg": second,
        f"train/{TULIP}/e.jpg": second,
        f"train/{ROSE}/f.jpg": third,
        f"train/{ROSE}/g.jpg": encode(decode(third).resize((200, 200)), quality=40),
        f"train/{ROSE}/h.jpg": fourth,
        f"valid/{ROSE}/i.png": encode(decode(fourth), "PNG"),
    }
    assert findings(drawn | files) == {
        "leak": [f"test/{ROSE}/d.jpg", f"train/{ROSE}/c.jpg", f"train/{TULIP}/e.jpg"],
        "conflicting_label": [f"test/{ROSE}/d.jpg", f"train/{ROSE}/c.jpg", f"train/{TULIP}/e.jpg"],
        "duplicate": [f"train/{ROSE}/a.jpg", f"train/{ROSE}/b.jpg"],
        "near_duplicate": [f"train/{ROSE}/f.jpg", f"train/{ROSE}/g.jpg"],
        "near_leak": [f"train/{ROSE}/h.jpg", f"valid/{ROSE}/i.png"],
    }


def test_class_defects_name_the_classes(findings, drawn, tmp_path):
    files = {
        **{f"train/{ROSE.upper()}/{number}.jpg": jpeg(TULIP, number, 3) for number in range(2)},
        **{f"train/caf\u00e9/{number}.jpg": jpeg(TULIP, number, 4) for number in range(10)},
        **{f"train/cafe\u0301/{number}.jpg": jpeg(TULIP, number + 10, 4) for number in range(10)},
        **{f"train/broken/{number}.jpg": b"\xff\xd8" for number in range(2)},
        "train/unfilled/notes.txt": b"to come",
    }
    (tmp_path / "source.folder/train/bare").mkdir(parents=True)
    ids = findings(drawn | files, checks={**CHECKS["flowers"], "imbalance": 5.0})
    assert ids["empty_class"] == ["broken", "bare", "unfilled"]
    assert ids["tiny_class"] == [f"{ROSE.upper()} (2)"]
    assert ids["colliding_class_names"] == [
        f"{ROSE.upper()!r} and {ROSE!r}",
        "'cafe\\u0301' and 'caf\\xe9'",
    ]
    assert f"{ROSE.upper()} (no test)" in ids["missing_in_split"]
    assert ids["imbalance"] == ["café", ROSE.upper()] and "refused" in ids


def colliding(*names):
    rows = [Row(f"{name}/1.jpg", name) for name in names]
    found = classes.findings(rows, rows, (), tiny_class=0, imbalance=100.0)
    return [group for finding in found if finding.name == "colliding_class_names" for (group,) in finding.groups]


@pytest.mark.parametrize("names", [("-1", "1"), ("C", "C++", "C#"), ("t_-1", "t_1"), ("A", "A-", "A+"), ("1-0", "10")])
def test_signs_tell_class_names_apart(names):
    assert colliding(*names) == []


@pytest.mark.parametrize(
    "names", [("a b", "a_b"), ("a-b", "a b"), ("Rose", "rose"), ("rose ", "rose"), ("a", "\uff41")]
)
def test_separators_and_case_do_not(names):
    assert len(colliding(*names)) == 1


def test_unsplittable_class_stops_nothing(findings, drawn):
    unsplit = {name.partition("/")[2]: content for name, content in drawn.items()}
    ids = findings(unsplit | {"lily/0.jpg": jpeg(ROSE, 50, 1), "lily/1.jpg": unsplit[f"{ROSE}/0.jpg"]})
    assert ids["tiny_class"] == ["lily (2)"] and ids["conflicting_label"] == [f"{ROSE}/0.jpg", "lily/1.jpg"]
    assert "refused" in ids


def test_good_texts_have_no_findings(findings, composed):
    assert findings(composed, "reviews") == {}


def test_each_text_defect_is_found(findings, composed):
    planted = {
        "short.txt": (b"Good.", "too_short"),
        "empty.txt": (b" \n", "empty"),
        "long.txt": (" ".join(f"word{number}" for number in range(1600)).encode(), "too_long"),
        "endless.txt": (b"endless " * 200_000, "enormous"),
        "picture.txt": (encode(Image.new("RGB", (64, 64)), "PNG"), "wrong_type"),
        "page.txt": (b"<html><body>A film of some merit, all in all.</body></html>", "wrong_type"),
        "binary.txt": (bytes(range(256)), "unreadable"),
        "garbled.txt": ("A café of many characters, wrongly read".encode().decode("cp1252").encode(), "garbled"),
    }
    files = {f"train/pos/{name}": content for name, (content, _) in planted.items()}
    ids = findings(composed | files, "reviews")
    expected = {(name, f"train/pos/{file}") for file, (_, name) in planted.items()}
    assert {(name, id) for name, group in ids.items() for id in group} == expected


def test_text_copies_ignore_case_and_markup(findings, composed):
    words = [f"word{number}" for number in random.Random(1).sample(range(10_000), 60)]
    text, changed = " ".join(words), " ".join([*words[:30], "another", *words[31:]])
    files = {
        "train/pos/a.txt": text.encode(),
        "test/pos/b.txt": text.upper().replace(" ", "\n\n").encode(),
        "train/neg/c.txt": text.replace(" ", "<br /> ", 3).encode(),
        "valid/neg/d.txt": changed.encode(),
    }
    same = ["test/pos/b.txt", "train/neg/c.txt", "train/pos/a.txt"]
    near = ["test/pos/b.txt", "valid/neg/d.txt"]
    assert findings(composed | files, "reviews") == {
        "leak": same,
        "conflicting_label": same,
        "near_leak": near,
        "near_conflicting_label": near,
    }


@pytest.mark.parametrize("name", ["leak", "error"])
def test_fail_on_stops_extract(fetched, drawn, name):
    leaking = drawn | {f"test/{ROSE}/again.jpg": drawn[f"train/{ROSE}/0.jpg"], f"test/{ROSE}/{HOSTILE[:8]}.jpg": b"no"}
    pipeline = fetched(leaking, checks={**CHECKS["flowers"], "fail_on": [name]})
    with pytest.raises(ChecksError, match=r"(?s)^leak: 2 examples .*checks\.fail_on stops here"):
        extract.run(pipeline)
    assert not pipeline.paths.examples.exists()
    report = json.loads(pipeline.paths.checks.read_text())
    assert [finding["name"] for finding in report["findings"]] == ["leak", "wrong_type"]
    page = pipeline.paths.data_page.read_text()
    assert "http" not in page.replace("http-equiv", "") and page.count("data:image/jpeg;base64,") == 2
    assert "<script" not in page and "&lt;script&gt;" in page


def test_other_findings_stop_nothing(fetched, drawn):
    leaking = drawn | {f"test/{ROSE}/again.jpg": drawn[f"train/{ROSE}/0.jpg"]}
    report = extract.run(fetched(leaking, checks={**CHECKS["flowers"], "fail_on": ["label_error", "note"]}))
    assert report["counts"] == {"train": 20, "valid": 2, "test": 3}


def test_unknown_finding_gets_a_suggestion(changed):
    with pytest.raises(ParamsError, match=r"data\.checks\.fail_on: .*'lek'; did you mean 'leak'\?$"):
        load_pipeline("flowers", changed("flowers.data.checks.fail_on", ["lek"]))


def points(per_class=40):
    """Return the keys and vectors of three clouds of unit vectors, [3 * per_class, 8]."""
    rng = np.random.default_rng(0)
    centers = np.repeat(np.eye(8)[:3], per_class, axis=0)
    vectors = centers + rng.normal(0, 0.1, centers.shape)
    keys = [Key(str(number), "train", "abc"[number // per_class], str(number)) for number in range(3 * per_class)]
    return keys, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_only_swapped_labels_are_found():
    keys, vectors = points()
    assert list(labels.findings(keys, vectors, {})) == []
    for number in (5, 50):
        keys[number] = Key(str(number), "train", "c", str(number))
    (finding,) = labels.findings(keys, vectors, {"c": "crocus"})
    assert {id for group in finding.groups for id in group} == {"5", "50"}
    assert finding.notes["5"].startswith("is crocus; looks like a (")


def test_encoding_findings_of_the_project(reproduced):
    for name, kind in {"flowers": "image", "reviews": "text"}.items():
        findings = json.loads((reproduced.folder / "data" / name / "encoded_checks.json").read_text())["findings"]
        page = (reproduced.folder / "reports" / name / "data.html").read_text()
        assert all(finding["name"] in page and finding["ids"] for finding in findings)
        encoded = Encoded.read(reproduced.folder / "data" / name / "encoded.arrow")
        vectors = TASKS[kind].vectors(encoded)[:20]
        np.testing.assert_allclose((vectors @ vectors.T).diagonal(), 1, rtol=1e-5)


CHECKS = {
    name: load_pipeline(name, REPOSITORY / "params.yaml").data.checks.model_dump() for name in ("flowers", "reviews")
}
