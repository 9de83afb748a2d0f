"""Which rows are encoded after a change, and which are reused from the former file."""

import io
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from flowerml.core.errors import DataError
from flowerml.data import encodings, examples
from flowerml.data.examples import Example, Examples
from flowerml.pipeline import encode as encoding
from flowerml.tasks import text as texts
from flowerml.tasks.image.encoder import Encoder, Preprocessing
from flowerml.tasks.image.encoder.backbone import Frozen
from flowerml.tasks.image.encoder.features import OnnxEngine, TorchEngine
from flowerml.tasks.image.encoder.pictures import Transform
from flowerml.tasks.image.sections import Encode
from flowerml.tasks.text.sections import Encode as WordsEncode

HALF = (0.5, 0.5, 0.5)
TRANSFORM = Transform(resize=16, crop=13, interpolation="bilinear", mean=HALF, std=HALF)
AUGMENT = {"rotation": 30.0, "smallest_crop": 0.5, "flip": True}


def picture(number: int, size: tuple[int, int] = (20, 24)) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def frozen(seed: int = 0) -> Frozen:
    torch.manual_seed(seed)
    return Frozen(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()))


def section(**changes: object) -> Encode:
    values = {"backbone": "tiny", "weights": "none", "views": 1, "augment": AUGMENT, "batch_size": 3, "seed": 0}
    return Encode.model_validate({**values, **changes})


def encoder(network: Frozen | None = None) -> Encoder:
    return Encoder("tiny", Preprocessing(TRANSFORM), features=16, frozen=network or frozen())


def trainable(**changes: object) -> tuple[Encoder, Encode]:
    """Return an encoder whose last layer is trained, and its section."""
    torch.manual_seed(0)
    layers = (nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)) for _ in range(3))
    network = nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    chosen = section(**{"trainable_blocks": 1, **changes})
    return replace(encoder(Frozen(network)), features=3).adapted(chosen), chosen


PICTURES = [Example(f"{n}.png", "valid" if n % 4 == 3 else "train", "rose", picture(n)) for n in range(11)]
REVIEWS = [Example(str(n), "valid" if n % 3 == 2 else "train", "pos", f"A fine film, part {n}.") for n in range(9)]
STEPS = {"strip_html": True, "lower_case": True, "letters_and_digits": True, "stop_words": "drop", "stem": True}
WORDS = WordsEncode(**STEPS, vocab_size=50, max_length=9, max_words=9)


@pytest.fixture
def encode(tmp_path):
    """Return a function that encodes rows, compares the file with one from scratch, and returns report and path."""

    def run(rows, encoder, section, *, path=tmp_path / "encoded.arrow"):
        examples.write(tmp_path / "examples.parquet", rows, raw=type(rows[0].raw))
        table = Examples(tmp_path / "examples.parquet")
        report = encoding.encode(path, table, encoder, section)
        encoding.encode(tmp_path / "scratch.arrow", table, encoder, section)
        assert path.read_bytes() == (tmp_path / "scratch.arrow").read_bytes()
        (tmp_path / "scratch.arrow").unlink()
        return report, path

    return run


def fitted(rows: list[Example]) -> texts.Encoder:
    train = [row for row in rows if row.split == "train"]
    return texts.Encoder.fit(train, WORDS, SimpleNamespace(characters=1000))


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("position", [0, 3, 10])
def test_only_changed_picture_is_encoded(encode, views, position):
    first, _ = encode(PICTURES, encoder(), section(views=views))
    assert str(first) == "encoded 11 of 11 examples"
    changed = [*PICTURES]
    changed[position] = replace(PICTURES[position], raw=picture(99))
    again, _ = encode(changed, encoder(), section(views=views))
    assert str(again) == "encoded 1 of 11 examples; 10 unchanged"


@pytest.mark.parametrize("views", [1, 3])
def test_renamed_rows_are_reused(encode, views):
    encode(PICTURES, encoder(), section(views=views))
    changed = [replace(row, id=f"new/{row.id}", label="lily") for row in reversed(PICTURES[2:])]
    report, path = encode(changed, encoder(), section(views=views))
    assert (report.encoded, report.unchanged) == (0, 9)
    assert set(encodings.Encoded.read(path).of("train", "label").to_pylist()) == {"lily"}


def test_moved_picture_gets_its_splits_views(encode):
    moved = [replace(PICTURES[0], split="valid"), *PICTURES[1:]]
    for views, expected in ((1, 0), (2, 1)):
        encode(PICTURES, encoder(), section(views=views))
        assert encode(moved, encoder(), section(views=views))[0].encoded == expected


@pytest.mark.parametrize("cache", ["pictures", "activations"])
def test_trained_blocks_read_cached_rows(encode, cache):
    encode(PICTURES, *trainable(cache=cache, views=2))
    changed = [*PICTURES[:4], replace(PICTURES[4], raw=picture(99)), *PICTURES[5:]]
    report, path = encode(changed, *trainable(cache=cache, views=2))
    assert (report.encoded, report.unchanged) == (1, 10)
    assert {cache, "features"} <= set(encodings.Encoded.read(path).table.column_names)


@pytest.mark.parametrize("cache", ["pictures", "activations"])
def test_features_are_those_of_a_frozen_backbone(encode, cache):
    pictures = [*PICTURES, Example("strip", "train", "rose", picture(12, (20, 90)))]
    with_border, chosen = trainable(cache=cache, views=2)
    values = []
    for one in (with_border, with_border.adapted(section())):
        _, path = encode(pictures, one, chosen)
        values.append(encodings.Encoded.read(path).vectors("train", "features")[0])
    np.testing.assert_array_equal(*values)


def test_cached_pictures_depend_on_the_split(encode):
    encode(PICTURES, *trainable())
    moved = [replace(PICTURES[0], split="valid"), *PICTURES[1:]]
    report, path = encode(moved, *trainable())
    assert report.encoded == 1
    sizes = encodings.Encoded.read(path).row_values("valid", "sizes")
    assert {tuple(size) for size in sizes} == {TRANSFORM.size}


@pytest.mark.parametrize(("cache", "expected"), [("pictures", 0), ("activations", 11)])
def test_another_border_reencodes_activations_only(encode, cache, expected):
    encode(PICTURES, *trainable(cache=cache))
    assert encode(PICTURES, *trainable(cache=cache, trainable_blocks=2))[0].encoded == expected


def test_too_small_a_disk_is_told_before(encode, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(DataError, match=r"11 examples take about .* KiB, but 1000 bytes are free; make") as error:
        encode(PICTURES, *trainable())
    assert "\n" not in str(error.value) and not (tmp_path / "encoded.arrow").exists()


def test_large_encodings_are_told(encode, monkeypatch, capsys):
    monkeypatch.setattr(encoding, "TOLD_FROM", 1_000)
    _, path = encode(PICTURES, *trainable())
    told = float(re.search(r"encodings: about ([\d.]+) KiB", capsys.readouterr().err)[1])
    rows = encodings.Encoded.read(path).table
    assert told * 1024 == pytest.approx(sum(rows.column(name).nbytes for name in ("features", "pictures")), rel=0.1)


def test_only_changed_text_is_encoded(encode):
    encode(REVIEWS, fitted(REVIEWS), WORDS)
    changed = [*REVIEWS[:8], replace(REVIEWS[8], raw="Another film altogether.")]
    assert encode(changed, fitted(changed), WORDS)[0].encoded == 1
    more = [*changed, Example("9", "train", "pos", "Excellent, excellent!")]
    assert encode(more, fitted(more), WORDS)[0].encoded == 10


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"views": 2}, 9),  # the training pictures
        ({"views": 2, "seed": 1}, 9),
        ({"seed": 1}, 0),  # one view is not augmented, and the weights are saved
        ({"batch_size": 5}, 0),
        ({"augment": AUGMENT | {"flip": False}}, 0),
    ],
)
def test_parameter_reencodes_dependent_rows(encode, change, expected):
    encode(PICTURES, encoder(), section())
    report, _ = encode(PICTURES, encoder(), section(**change))
    assert report.encoded == expected


@pytest.mark.parametrize("change", ["weights", "transform", "network"])
def test_other_encoder_reencodes_all(encode, change):
    encode(PICTURES, encoder(), section())
    encoders = {
        "weights": encoder(frozen(seed=1)),
        "transform": replace(encoder(), preprocessing=Preprocessing(replace(TRANSFORM, resize=17))),
        "network": encoder(Frozen(nn.Sequential(*frozen().module[:2], nn.AdaptiveMaxPool2d(2), nn.Flatten()))),
    }
    assert encode(PICTURES, encoders[change], section())[0].encoded == 11


@pytest.mark.parametrize("damage", ["empty", "truncated", "overwritten", "text", "folder", "older"])
def test_unusable_file_is_ignored(encode, damage, tmp_path):
    _, path = encode(PICTURES, encoder(), section())
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "older":  # no fingerprints
        encodings.write(path, encoded_rows(), columns=encoder().columns)
    else:
        half = len(content) // 2
        kinds = {"empty": b"", "truncated": content[:half], "text": b"roses are red"}
        path.write_bytes(kinds.get(damage, content[:300] + bytes(half) + content[300 + half :]))
    assert encode(PICTURES, encoder(), section())[0].encoded == 11


def encoded_rows():
    keys = [examples.Key(row.id, row.split, row.label, row.digest) for row in PICTURES]
    return zip(keys, encoder().encode(PICTURES, section()), strict=True)


def test_damaged_row_is_reencoded(encode):
    _, path = encode(PICTURES, encoder(), section())
    content = path.read_bytes()
    (features,) = encoder().encode(PICTURES[5:6], section())
    assert content.count(features["features"].tobytes()) == 1
    path.write_bytes(content.replace(features["features"].tobytes(), np.zeros(16, np.float32).tobytes()))
    assert encode(PICTURES, encoder(), section())[0].encoded == 1


def test_failure_keeps_the_former_file(encode, tmp_path):
    _, path = encode(PICTURES, encoder(), section())
    path.chmod(0o444)
    before = path.read_bytes()
    unreadable = [*PICTURES, Example("no.png", "train", "rose", b"no picture")]
    with pytest.raises(ValueError, match="not a picture"):
        encode(unreadable, encoder(), section())
    assert path.read_bytes() == before
    assert encode(PICTURES[:4], encoder(), section())[0].encoded == 0


@pytest.mark.parametrize("make", [lambda: OnnxEngine(frozen(), size=(13, 13)), lambda: TorchEngine(frozen(), "cpu")])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_batch_size_keeps_features(make, batch_size):
    stacks = [np.random.default_rng(n).standard_normal((1 + n % 3, 3, 13, 13), np.float32) for n in range(7)]
    features = list(make().extract(list, stacks, batch_size=batch_size))
    assert [len(rows) for rows in features] == [1, 2, 3, 1, 2, 3, 1]
    for rows, stack in zip(features, stacks, strict=True):
        np.testing.assert_allclose(rows, frozen()(torch.from_numpy(stack)), atol=1e-6)
