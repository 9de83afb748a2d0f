"""The parts of the page that need no browser: what it refuses, which models it asks, how it shows an answer."""

import hashlib
import json
import re
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from flowerml import web
from flowerml.classifier.saved import EXAMPLES
from flowerml.core.errors import FlowermlError, InputError, ModelError
from flowerml.tasks.image.encoder.pictures import HEIC_REMEDY
from flowerml.web import render, samples
from flowerml.web.refusals import of_error, of_file
from flowerml.web.sources import LoadedSource, ServedSource
from flowerml.web.uploads import Uploads
from tests.support.project import REPOSITORY
from tests.support.serving import make_answer

SAVED = REPOSITORY / "tests/classifier/saved_by_0_1_0"  # tells neg from pos
FILES = (EXAMPLES, "network.onnx", "weights.safetensors")
TEXT = {"poles": True, "seconds": 0.01, "unsure": None}
PICTURE = {"poles": False, "seconds": 0.01, "unsure": None}


@pytest.fixture
def silent():
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_page_of_nothing_is_refused():
    with pytest.raises(FlowermlError, match="name a classifier's folder, or the address"):
        web.launch(models=[], endpoints=[], port=free_port())


def test_no_classifier_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not a saved classifier"):
        web.launch(models=[tmp_path], endpoints=[], port=free_port())


@pytest.mark.parametrize("address", ["ftp://host", "image=", "http://", "http://host:port", "text=http://:80", "a..b"])
def test_bad_address_is_refused(address):
    with pytest.raises(ModelError, match="is not the address of a server; expected a URL"):
        web.launch(models=[], endpoints=[address], port=free_port())


def test_taken_port_is_refused(silent):
    with pytest.raises(FlowermlError, match=rf"port {silent} \(address already in use\); choose another"):
        web.launch(models=[], endpoints=["text=http://127.0.0.1:1"], port=silent)


def test_foreign_host_is_refused():
    with pytest.raises(FlowermlError, match=r"cannot be served at 192\.0\.2\.1, port"):
        web.launch(models=[], endpoints=["text=http://127.0.0.1:1"], host="192.0.2.1")


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_bad_port_is_refused(port):
    with pytest.raises(FlowermlError, match="expected a port from 1 to 65535"):
        web.launch(models=[], endpoints=["text=http://127.0.0.1:1"], port=port)


def test_bare_address_needs_a_server(silent):
    with pytest.raises(ModelError, match=r"did not answer within 0\.2 s"):
        ServedSource(f"http://127.0.0.1:{silent}", timeout=0.2)


def test_slow_server_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as server:
        served = ServedSource(f"text=http://name:secret@127.0.0.1:{server.getsockname()[1]}/invocations", timeout=0.2)
        with pytest.raises(ModelError, match=r"at http://127.0.0.1:\d+ did not answer within 0.2 s; it may be busy"):
            served.ask("A film.", top_k=2)


def test_bad_host_name_is_refused():
    with pytest.raises(FlowermlError, match="expected a host name"):
        web.launch(
            models=[], endpoints=["text=http://127.0.0.1:1"], port=free_port(), allowed_hosts=["http://x"], block=False
        )


def test_registered_model_has_version(reproduced, tmp_path):
    reviews = reproduced.folder / "models/reviews/classifier"
    folder = shutil.copytree(reviews, tmp_path / "artifacts/classifier")
    assert LoadedSource(folder).model["version"] is None
    (tmp_path / "registered_model_meta").write_text("model_name: opinions\nmodel_version: '7'\n")
    answer = LoadedSource(folder).ask("A film.", top_k=1)
    assert (answer.model, answer.version) == ("opinions", "7")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"PK\x03\x04...", "an archive or a document"),
        (b"\n<!DOCTYPE html>", "a web page"),
        (b"\xef\xbb\xbf<svg xmlns=''/>", "SVG"),
        (b"\0\0\0 ftypisom...", "a film"),
    ],
)
def test_files_that_are_no_pictures_get_a_sentence(content, kind):
    assert re.fullmatch(rf"this file is .*{kind}; expected a picture, such as a JPEG or PNG: [\w ,]+", of_file(content))


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0", b"\x89PNG", b"\0\0\0 ftypheic", b"a text"])
def test_other_files_are_asked_about(content):
    assert of_file(content) is None


def test_a_reason_ends_in_what_to_do():
    damaged = of_error(InputError("unreadable_image", "damaged or cut short: its header is not whole"))
    assert damaged.endswith("not whole; choose another one, or save it again as JPEG or PNG")
    assert of_error(InputError("unreadable_image", HEIC_REMEDY)) == HEIC_REMEDY


@pytest.fixture
def with_examples(tmp_path):
    """Return a function that loads a small classifier of texts with this file of examples."""
    folder = shutil.copytree(SAVED, tmp_path / "small")

    def load(content):
        (folder / EXAMPLES).write_bytes(content)
        description = json.loads((folder / "classifier.json").read_text())
        digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
        (folder / "classifier.json").write_text(json.dumps(description | {"digests": digests}))
        return LoadedSource(folder)

    return load


def offered(source):
    return samples.as_html(samples.of(source, Uploads()), form="text")


def test_examples_are_escaped(with_examples):
    content = {"format": 1, "examples": [{"label": "pos", "input": "<script>alert(1)</script> good"}]}
    source = with_examples(json.dumps(content).encode())
    source.classifier.names["pos"] = "<img src=x onerror=alert(1)>"
    html = offered(source)
    assert "&lt;img src=x" in html and html.count("<button") == 1
    assert not re.search("<script|<img", html)


@pytest.mark.parametrize("content", [b"", b"[]", b"\x00" * (2**18 + 1), b'{"format": 1, "examples": [{"label": "x"}]}'])
def test_hostile_examples_are_one_line(with_examples, content, capsys):
    source = with_examples(content)
    assert "data-index" not in offered(source)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the page offers no examples: ") and "examples.json" in line
    assert source.ask("A film.", top_k=1).top


def test_classifier_of_an_earlier_version_has_none(capsys):
    source = LoadedSource(SAVED)
    assert "data-index" not in offered(source)
    assert not source.is_demo or source.classifier.description["parameters"]["data.source"] == "sample"


def test_explanation_is_optional():
    html = render.answer(make_answer(0.9, 0.05), **PICTURE)
    assert "C0" in html
    assert "version 3" in html
    assert "<figure" not in html


def test_unknown_is_shown_as_a_guess():
    html = render.answer(make_answer(0.9, 0.05, known=False), **PICTURE)
    assert "Not sure" in html and "The best guess is <b>C0</b>, with 90.0 %." in html
    assert "Not sure" not in render.answer(make_answer(0.3, known=True), **PICTURE)


def test_the_reason_of_a_guess_is_shown():
    answer = replace(make_answer(0.9, known=False), reason="none of its words <b>occurs</b>")
    assert "None of its words &lt;b&gt;occurs&lt;/b&gt;. The best guess" in render.answer(answer, **PICTURE)


def test_words_have_colors_of_classes():
    words = [{"text": "good", "weight": 2.0}, {"text": "dull", "weight": -1.0}, {"text": "film", "weight": 0.0}]
    for_right = make_answer(0.2, 0.8, explanation={"label": "c1", "words": words})
    for_left = make_answer(0.8, 0.2, explanation={"label": "c0", "words": words})
    assert sides(for_right) == {"good": "right", "dull": "left"}
    assert sides(for_left) == {"good": "left", "dull": "right"}


def sides(answer):
    html = render.answer(answer, **TEXT)
    return {text: side for side, text in re.findall(r'<span class="(\w+)" style="--strength[^>]*>(\w+)<', html)}


def test_long_text_is_cut():
    words = [{"text": "good", "weight": 1.0}, {"text": " film" * 100_000, "weight": 0.0}]
    html = render.answer(make_answer(0.2, 0.8, explanation={"label": "c1", "words": words}), **TEXT)
    assert len(html) < 15_000
    assert "The rest of the text is not shown." in html


def test_percent_is_never_rounded_to_0_or_100():
    assert [render.percent(share) for share in (0, 0.0002, 0.1234, 0.9999, 1)] == [
        "0.0 %",
        "&lt; 0.1 %",
        "12.3 %",
        "&gt; 99.9 %",
        "100.0 %",
    ]


@pytest.mark.parametrize("theme", [":root {", ":root.dark, .dark {"])
def test_text_colors_have_contrast(theme):
    style = (Path(web.__file__).parent / "page.css").read_text()
    colors = dict(re.findall(r"--([\w-]+): (#\w{6})", style.split(theme, 1)[1].split("}", 1)[0]))
    pairs = [(text, ground) for text in ("ink", "soft", "left", "right") for ground in ("card", "ground")]
    for text, ground in [*pairs, ("on-accent", "right"), ("ink", "problem")]:
        assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)


def contrast(text, ground):
    """Return the contrast ratio of the Web Content Accessibility Guidelines 2.1."""
    brighter, darker = sorted((luminance(text), luminance(ground)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(color):
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
