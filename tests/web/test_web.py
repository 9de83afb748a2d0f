"""The page in a real browser."""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from flowerml import Classifier
from flowerml.classifier.examples import read_examples, to_bytes
from flowerml.classifier.saved import EXAMPLES
from flowerml.data.examples import Examples
from flowerml.tasks.registry import TASKS
from tests.support.browser import in_browser
from tests.support.serving import served

pytestmark = pytest.mark.slow

HOSTILE = '<img src="x" onerror="alert(1)">${alert(2)}{{alert(3)}}`'

# Records each address other than this machine's that the process of the page looks up or connects to.
PROGRAM = """
import json, sys
from pathlib import Path
options = json.loads(sys.argv[1])
here = ("127.0.0.1", "localhost", "::1", None)
def watch(event, values):
    host = {"socket.getaddrinfo": lambda: values[0], "socket.connect": lambda: values[1][0]}.get(event, lambda: None)()
    if host not in here:
        with Path("strayed.txt").open("a") as strayed:
            strayed.write(f"{event} {host}\\n")
sys.addaudithook(watch)
from flowerml.web import launch
launch(**options)
"""

PASTE = """(content) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "pasted.jpg", {type: "image/jpeg"}));
    document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
}"""


@contextlib.contextmanager
def running(folder, **options):
    """Run a page in a process of its own, which writes to `folder` and deletes its files in the end."""
    (folder / "tmp").mkdir()
    with (folder / "log.txt").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps({**options, "port": free_port()})],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "TMPDIR": str(folder / "tmp")},
        )
        try:
            line = process.stdout.readline()
            assert "the page is at http" in line, (folder / "log.txt").read_text()
            yield SimpleNamespace(url=line.split()[4], folder=folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
    assert list((folder / "tmp").glob("flowerml-web-*")) == []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def flowers(reproduced):
    return reproduced.folder / "models/flowers/classifier"


@pytest.fixture(scope="module")
def reviews(reproduced):
    return reproduced.folder / "models/reviews/classifier"


@pytest.fixture(scope="module")
def picture(reproduced, tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "picture.jpg"
    path.write_bytes(next(Examples(reproduced.folder / "data/flowers/examples.parquet").of("test")).raw)
    return path


@pytest.fixture(scope="module")
def running_page(flowers, reviews, tmp_path_factory):
    with running(tmp_path_factory.mktemp("page"), models=[str(flowers), str(reviews)], endpoints=[]) as page:
        yield page


@contextlib.contextmanager
def opened(browser, url, *, width=1280, height=860, **options):
    """Open the page in a new window; it must contact only its own server, and run no foreign script."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(60_000)
    page, strayed = context.new_page(), []
    page.on("request", lambda request: strayed.append(request.url) if not request.url.startswith(own(url)) else None)
    page.on("console", lambda line: strayed.append(line.text) if "Content Security Policy" in line.text else None)
    page.on("dialog", lambda dialog: (strayed.append(dialog.message), dialog.dismiss()))
    page.goto(url)
    page.locator(".answer").first.wait_for()
    yield page
    context.close()
    assert strayed == []


def own(url):
    return (url, f"blob:{url}", "data:")


@pytest.fixture
def page(browser, running_page):
    with opened(browser, running_page.url) as window:
        yield window


def shown(page):
    """Wait for the visible answer and return its text."""
    page.locator(".verdict:visible, .problem:visible").first.wait_for()
    return page.locator(".answer:visible").inner_text()


def shown_classes(page):
    shown(page)
    names = page.locator(".answer:visible .name").all_inner_texts()
    numbers = page.locator(".answer:visible .number").all_inner_texts()
    return dict(zip(names, map(probability, numbers), strict=True))


def probability(percent):
    """Return the probability that a percentage was rounded from, to half of its last decimal."""
    rounded = {"< 0.1 %": "0", "> 99.9 %": "100"}.get(percent, percent)
    return float(re.search(r"[\d.]+", rounded)[0]) / 100


def expected_classes(folder, raw):
    (prediction,) = Classifier.load(folder).predict([raw])
    return {best.name: pytest.approx(best.probability, abs=0.0005 + 1e-5) for best in prediction.top}


def examples(folder):
    return read_examples(Classifier.load(folder))


def offered(page, form):
    """Return the classes of the examples, as they are shown."""
    return page.locator(f".samples.{form} .class").all_inner_texts()


def ask_about(page, text):
    page.get_by_role("tab", name="Review").click()
    box = page.get_by_label("Review")
    box.fill(text)
    box.press("Enter")


@in_browser
def test_upload_gets_own_answer(page, flowers, picture):
    page.set_input_files("input[type=file]", picture)
    assert shown_classes(page) == expected_classes(flowers, picture)
    assert "Answered by flowers" in shown(page)
    assert page.locator(".heat img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


@in_browser
def test_pasted_picture_replaces_another(page, flowers, picture):
    page.locator(".samples.image button").first.click()
    page.locator(".heat img").wait_for()
    before = shown(page)
    page.evaluate(PASTE, base64.b64encode(picture.read_bytes()).decode())
    page.wait_for_function("before => document.querySelector('.answer').innerText !== before", arg=before)
    assert shown_classes(page) == expected_classes(flowers, picture)


@in_browser
@pytest.mark.parametrize("text", ["A wonderful film. I loved it.", "Boring and dull.\nI hated it."])
def test_enter_asks_and_scale_answers(page, reviews, text):
    ask_about(page, text)
    expected = expected_classes(reviews, text)
    assert shown_classes(page) == expected
    mark = page.get_by_role("meter", name="positive")
    assert float(mark.get_attribute("aria-valuenow")) / 100 == expected["positive"]
    assert page.locator(".words .passage").inner_text().split() == text.split()


@in_browser
def test_samples_are_answered_on_click(page, reviews):
    page.locator(".samples.image button").nth(1).click()
    assert "Answered by flowers" in shown(page)
    page.get_by_role("tab", name="Review").click()
    page.locator(".samples.text button").nth(1).click()
    assert "Answered by reviews" in shown(page)
    assert page.get_by_label("Review").input_value() == examples(reviews)[1].raw


@in_browser
def test_answers_keep_their_order(page, reviews):
    ask_about(page, "A film that was long. " * 100)
    page.get_by_role("button", name="Clear").click()
    page.wait_for_timeout(2000)  # Gradio takes a moment to cancel, and would cancel a new question in it too
    ask_about(page, "A film that was short. " * 100)
    page.locator(".samples.text button").first.click()
    page.wait_for_timeout(3000)
    assert page.locator(".words .passage").inner_text().split() == examples(reviews)[0].raw.split()


@in_browser
def test_page_works_by_keyboard(page):
    page.get_by_role("tab", name="Review").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("A film.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert "Answered by reviews" in shown(page)


@in_browser
def test_non_picture_gets_a_reason(page, picture, tmp_path):
    page.set_input_files("input[type=file]", picture)
    shown(page)
    (tmp_path / "notes.jpg").write_text("a text\n" * 100)
    page.set_input_files("input[type=file]", tmp_path / "notes.jpg")
    page.locator(".problem").wait_for()
    assert shown(page).split("\n")[-1].startswith("Not a picture of a known kind")
    assert page.locator(".verdict").count() == 0


@in_browser
def test_pdf_gets_a_sentence(page, picture, tmp_path):
    page.set_input_files("input[type=file]", picture)
    shown(page)
    (tmp_path / "page.pdf").write_bytes(b"%PDF-1.7\n" + b"x" * 500)
    page.set_input_files("input[type=file]", tmp_path / "page.pdf")
    page.locator(".problem").wait_for()
    assert "This file is a PDF; expected a picture" in shown(page)
    page.get_by_text("Drop, paste or choose a picture").wait_for()  # in place of the former one
    page.locator(".samples.image button").first.click()
    page.locator(".verdict").wait_for()


@in_browser
def test_large_file_is_not_sent(page, tmp_path):
    sent = []
    page.on("request", lambda request: sent.append(request.url) if "upload" in request.url else None)
    (tmp_path / "large.jpg").write_bytes(b"\xff\xd8" + bytes(33 * 2**20))
    page.set_input_files("input[type=file]", tmp_path / "large.jpg")
    assert "This file is larger than 32 MB" in shown(page)
    assert sent == []


@in_browser
def test_examples_are_those_of_the_model(page, flowers, reviews):
    names = Classifier.load(reviews).names
    assert offered(page, "image") == [example.label for example in examples(flowers)] != []
    page.get_by_role("tab", name="Review").click()
    assert offered(page, "text") == [names[example.label] for example in examples(reviews)] != []


@in_browser
def test_examples_have_names(page, flowers):
    label = examples(flowers)[0].label
    page.get_by_role("button", name=f"Example 1: {label}").press("Enter")
    assert "Answered by flowers" in shown(page)


@in_browser
def test_demonstration_says_so(page):
    assert "trained on flowers drawn by a program" in page.locator(".demo:visible").inner_text()
    page.get_by_role("tab", name="Review").click()
    assert "trained on reviews composed by a program" in page.locator(".demo:visible").inner_text()


@in_browser
def test_empty_review_is_not_asked(page):
    ask_about(page, "  ")
    page.get_by_text("Enter a text first.").wait_for()


@in_browser
def test_phone_shows_the_whole_answer(browser, running_page):
    with opened(browser, running_page.url, width=390, height=640) as page:
        ask_about(page, "A wonderful film, and a dull one too.")
        shown(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.wait_for_function("document.querySelector('.verdict').getBoundingClientRect().bottom < 640")


@in_browser
@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_phone_brings_the_answer_into_view(browser, running_page, motion):
    with opened(browser, running_page.url, width=390, height=640, reduced_motion=motion) as page:
        page.locator(".samples.image button").first.click()
        verdict = shown(page).split("\n")[0]
        page.wait_for_function(
            "() => {const {top, bottom} = document.querySelector('.verdict').getBoundingClientRect(); "
            "return top >= 0 && bottom < 320}"
        )
        page.wait_for_function("document.activeElement.getAttribute('aria-label') === 'Answer'")
        assert page.locator("#announcement").inner_text().startswith(verdict)


@pytest.fixture(scope="module")
def server():
    """An exit stack that stops the served model of `asking_page` when it is closed."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def asking_page(server, reproduced, flowers, tmp_path_factory):
    """A page of an always unsure classifier with names in HTML, and of a served model; and that address."""
    folder = tmp_path_factory.mktemp("asking")
    shutil.copytree(flowers, folder / "classifier")
    description = json.loads((folder / "classifier/classifier.json").read_text())
    description["names"] = {label: f"{label}{HOSTILE}" for label in description["classes"]}
    description["trained"]["pipeline"] = HOSTILE
    description["parameters"]["data.source"] = "pictures"
    content = to_bytes(TASKS["image"], examples(flowers)[:1:-1])
    (folder / "classifier" / EXAMPLES).write_bytes(content)
    description["digests"][EXAMPLES] = hashlib.sha256(content).hexdigest()
    (folder / "classifier/classifier.json").write_text(json.dumps(description))
    uri = f"sqlite:///{reproduced.folder}/mlflow.db"
    model = server.enter_context(served("models:/reviews/1", tmp_path_factory.mktemp("serve"), tracking_uri=uri))
    address = f"http://127.0.0.1:{model.port}"
    with running(folder, models=["classifier"], endpoints=[address], unsure=1.0) as page:
        yield page, address


@in_browser
def test_class_names_are_escaped(browser, asking_page, picture):
    with opened(browser, asking_page[0].url) as page:
        page.set_input_files("input[type=file]", picture)
        assert shown(page).startswith("Not sure")
        assert shown(page).count(HOSTILE) >= 7  # the best guess, five bars, the signature
        page.locator(".heat img").wait_for()
        assert page.locator(".answer:visible img").count() == 1


@in_browser
def test_another_model_has_its_own_examples(browser, asking_page, flowers):
    with opened(browser, asking_page[0].url) as page:
        own = [f"{example.label}{HOSTILE}" for example in examples(flowers)[:1:-1]]
        assert [name.replace("\n", "") for name in offered(page, "image")] == own
        assert page.locator(".demo").count() == 0
        page.get_by_role("tab", name="Review").click()
        assert page.locator(".samples button:visible").count() == 0  # a served model has none


@in_browser
def test_served_model_answers_then_stops(browser, asking_page, server, reviews):
    running_page, address = asking_page
    with opened(browser, running_page.url) as page:
        ask_about(page, HOSTILE)
        assert shown_classes(page) == expected_classes(reviews, HOSTILE)
        assert "Answered by reviews, version 1, in" in shown(page)
        assert page.locator(".words .passage").inner_text() == HOSTILE
        server.close()
        ask_about(page, HOSTILE)
        page.locator(".problem").wait_for()
        assert f"The server at {address} cannot be reached" in shown(page)
        assert page.locator(".answer:visible .verdict").count() == 0


@in_browser
def test_page_contacts_nobody_else(page, running_page, picture):
    page.set_input_files("input[type=file]", picture)  # `opened` watches the browser's requests in every test
    shown(page)
    assert not (running_page.folder / "strayed.txt").exists()
