"""Any picture, text or JSON gets an answer or an InputError of one line, in bounded time."""

import io
import math
import zlib
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from flowerml import Classifier
from flowerml.core.errors import InputError
from flowerml.data.examples import Example
from flowerml.tasks import image, text
from flowerml.tasks.image.encoder.pictures import Transform
from flowerml.tasks.text.explanation import MAX_SPANS
from flowerml.tasks.text.networks.blend import Blend
from flowerml.tasks.text.networks.lstm import Lstm
from flowerml.tasks.text.networks.ngrams import NGrams
from flowerml.tasks.text.sections import Encode
from tests.support.properties import changed, changes, few, fewer, forgeries, in_time

TRANSFORM = Transform(16, 12, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PICTURES = image.Preprocessing(TRANSFORM, max_pixels=200_000)
LIMITS = SimpleNamespace(pixels=200_000)
SECTION = SimpleNamespace(
    limits=LIMITS, checks=SimpleNamespace(smallest_side=32, largest_side=10_000, longest_shape=5.0)
)
STEPS = {"strip_html": True, "lower_case": True, "letters_and_digits": True, "stop_words": "drop", "stem": True}
CHARACTERS = 50_000
SAVE_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("PNG", {"compress_level": 0}),
    ("BMP", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"compression": "packbits"}),
    ("TIFF", {"compression": "jpeg"}),
    ("AVIF", {"speed": 10}),
]
MODES = ("RGB", "L", "RGBA", "P", "1", "LA", "I;16", "I", "F", "CMYK", "YCbCr", "LAB")


@cache
def pictures() -> list[bytes]:
    """Return a picture in each format and each mode that the format can have, with an EXIF orientation."""
    noise = Image.effect_noise((40, 30), 80)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for mode in MODES:
        for file_format, options in SAVE_OPTIONS:
            if options.get("compression") == "jpeg" and mode not in ("L", "RGB"):
                continue  # libtiff's encoder breaks the heap where it refuses a mode
            buffer = io.BytesIO()
            try:
                noise.convert(mode).save(buffer, file_format, exif=exif, **options)
            except (OSError, ValueError, KeyError):
                continue
            files.append(buffer.getvalue())
    return files


def result_or_none(read: Callable[[], Any]) -> Any:
    """Return what `read` returns; None for an InputError with a code and a printable message of one line."""
    with in_time():
        try:
            return read()
        except InputError as error:
            assert error.code.isidentifier()
            assert str(error).isprintable() and len(str(error)) < 500
            return None


def with_checksums(raw: bytes) -> bytes:
    """Return a PNG with the right checksum for each chunk, so that a forged header is accepted."""
    content, start = bytearray(raw), 8
    while start + 12 <= len(content) and raw.startswith(b"\x89PNG"):
        end = start + 8 + int.from_bytes(content[start : start + 4])
        content[end : end + 4] = zlib.crc32(content[start + 4 : end]).to_bytes(4)
        start = end + 4
    return bytes(content[: len(raw)])


def check_picture(raw: bytes) -> None:
    pixels = result_or_none(lambda: PICTURES.transform(raw))
    # `check` and `extract` read with this one.
    assert (result_or_none(lambda: image.read(raw, SECTION)) is None) == (pixels is None)
    if pixels is not None:
        assert (pixels.shape, pixels.dtype) == ((3, 12, 12), np.float32)
        assert np.abs(pixels).max() <= 1
        image.inspect("a.png", raw, SECTION)
        assert all(math.isfinite(value) for value in image.properties(raw).values() if isinstance(value, float))


@few
@given(st.sampled_from([raw[:length] for raw in pictures() for length in (0, 2, 4, 12, 40)]), st.binary())
def test_random_bytes_after_a_picture_start(start, raw):
    check_picture(start + raw)


@few
@given(st.sampled_from(pictures()), changes)
def test_damaged_and_forged_pictures(raw, made):
    check_picture(changed(raw, made))


@few
@given(st.sampled_from(pictures()), st.sampled_from([20, 60, 400]), forgeries)
def test_pictures_with_forged_headers(raw, length, made):
    check_picture(with_checksums(raw[:8] + changed(raw[8:length], made) + raw[length:]))


@pytest.fixture(scope="module")
def reviews(tmp_path_factory) -> Classifier:
    """A small classifier of texts with random weights."""
    torch.manual_seed(0)
    section = Encode(**STEPS, vocab_size=40, max_length=60, max_words=90)
    examples = [Example("1", "train", "pos", "A good film that was never dull, and a splendid cast.")]
    encoder = text.Encoder.fit(examples, section, SimpleNamespace(characters=CHARACTERS))
    sizes = {"embedding_dim": 4, "hidden_dim": 4, "layers": 1, "bidirectional": False, "pooling": "mean_max"}
    network = Blend(Lstm(encoder.preprocessing.codes, 2, **sizes, dropout=0.0), NGrams(2, order=3, longest=0))
    saved = {"kind": "text", "encoder": encoder, "network": network, "classes": ("neg", "pos"), "names": {}}
    folder = tmp_path_factory.mktemp("small") / "c"
    return Classifier.save(folder, **saved, parameters={}, trained={"pipeline": "small"})


any_text = st.text(st.characters(codec=None, exclude_categories=()))
TAGS = ("<", "</", "<a ", "<a/", "<b>", "<br />", "<!", "<!a[", "<!--", "-->", "<![CDATA[", "]]>", "<?", "<script>")
ENTITIES = ("&", "&#", "&#x", "&#99999999;", "&lt", "&amp;", "&#xD800;", ";", ">", "/>", "'", '"', "=", "_", "\0", " ")
RARE = ("good", "a" * 5000, "\u0301" * 500, "1" * 5000, "\u202e", "\u2028", "\ud800", "\udc00", "İ", "ß")
marks = st.sampled_from(TAGS + ENTITIES + RARE)
texts = st.lists(marks | any_text, max_size=30).map("".join) | st.builds(
    lambda part, count: part * count, marks | any_text, st.sampled_from([100, 3000])
)


def check_text(classifier: Classifier, raw: str) -> None:
    predictions = result_or_none(lambda: classifier.predict([raw]))
    if predictions is not None:
        probabilities = [entry.probability for entry in predictions[0].top]
        assert sum(probabilities) == pytest.approx(1)
        assert min(probabilities) >= 0


@few
@given(texts)
def test_any_text_is_answered(reviews, raw):
    check_text(reviews, raw)


@fewer
@given(texts)
def test_explanations_make_up_the_text(reviews, raw):
    explanation = result_or_none(lambda: reviews.explain(raw[:300]))
    assert explanation is None or "".join(word.text for word in explanation.words) == raw[:300]


def test_unclosed_tags_are_erased_in_groups(reviews):
    """One at a time, 2 kB of unclosed tags kept the HTML parser busy for 13 seconds, and more for minutes."""
    explanation = result_or_none(lambda: reviews.explain("<a " * 2000))
    assert len(explanation.words) < MAX_SPANS / 2


@few
@given(st.binary() | texts.map(lambda raw: raw.encode("utf-16", "surrogatepass")), changes)
def test_any_file_is_a_text_or_rejected(raw, made):
    for content in (raw, changed(raw, made)):
        raw_text = result_or_none(lambda content=content: text.from_bytes(content))
        assert raw_text is None or isinstance(raw_text, str)


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | any_text
    | st.integers(0, 255)
    | st.binary()
    | st.sampled_from(["255", "1e3", "١", "9" * 5000, "data:", "data:;base64,", "data:image/png;base64,iVBORw0K"]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=12,
)


numbers = st.sampled_from(["1", "255", "256", "x", 1, 255, 256, -1, True, None, 1.0, 2.7, math.inf, math.nan, [1]])
arrays = (st.lists(st.integers(-1, 256), max_size=4) | st.integers(-1, 256)).map(np.array)


@few
@given(values | st.lists(numbers, max_size=4) | arrays)
@example(["1", math.inf])  # raised an OverflowError once
@example(np.array(7))  # raised a TypeError once
def test_any_json_is_an_input_or_rejected(value):
    for task in (image, text):
        raw = result_or_none(lambda task=task: task.from_json(value))
        assert raw is None or isinstance(raw, task.RAW)


@few
@given(st.lists(values, max_size=4), values, st.booleans())
def test_served_answers_match_their_rows(served, rows, top_k, explain):
    column = pd.DataFrame({"text": pd.Series(rows, dtype=object)})
    with in_time():
        answers = served.predict(None, column, {"top_k": top_k, "explain": explain})
    assert len(answers) == len(rows)
    for answer in answers:
        code = answer["error"]["code"]
        assert code != "internal_error"
        assert bool(answer["top"]) is (code is None)
        assert bool(answer["reason"]) is (code is None and not answer["known"])
        assert bool(answer["explanation"]["label"]) is (code is None and explain)


def test_a_lone_surrogate_fails_no_row(reviews, monkeypatch):
    """pandas' own string type refuses it while MLflow reads the request, and all rows fail."""
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    from flowerml.serving.pyfunc import TIMEOUT_VARIABLE, ClassifierModel

    monkeypatch.setenv(TIMEOUT_VARIABLE, "60")
    with pd.option_context("future.infer_string", True):
        model = ClassifierModel()
        model.load_context(SimpleNamespace(artifacts={"classifier": str(reviews.folder)}))
        rows = infer_and_parse_data({"dataframe_split": {"columns": ["text"], "data": [["dull \ud800"], ["splendid"]]}})
        answers = model.predict(None, rows)
    assert ["top" in answer for answer in answers] == [True, True]


@pytest.fixture(scope="module")
def served(reviews) -> Any:
    from flowerml.serving.pyfunc import ClassifierModel

    model = ClassifierModel()
    model.load_context(SimpleNamespace(artifacts={"classifier": str(reviews.folder)}))
    return model
