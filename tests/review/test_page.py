"""The page in a real browser: keys, undo, two tabs, hostile names, and a phone."""

import contextlib
import io
from types import SimpleNamespace

import pytest
from PIL import Image

from flowerml.review import server
from flowerml.review.table import Decision, Former
from tests.support.browser import in_browser

pytestmark = [pytest.mark.slow, pytest.mark.extended]  # 10 s, where make test should take little
HOSTILE = '<img src="x" onerror="alert(1)">'


def picture(id):
    """Return a picture of one color for roses, and a hostile text for tulips."""
    if id.startswith("tulip"):
        return f"{HOSTILE} {id}\n" + "A long line of words. " * 400
    buffer = io.BytesIO()
    Image.new("RGB", (480, 360), (180, 40, 60)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def served(make_session):
    """Serve the session of six examples."""
    session = make_session()
    session.view = picture
    with server.Server(session, host="127.0.0.1", port=0) as running:
        yield SimpleNamespace(session=session, link=running.link)


@contextlib.contextmanager
def opened(browser, link, **options):
    """Open the page in a new window; it must contact only its own server, and run no foreign script."""
    context = browser.new_context(**options)
    page, strayed = context.new_page(), []
    own = (link.partition("#")[0], f"blob:{link.partition('#')[0]}")
    page.on("request", lambda request: strayed.append(request.url) if not request.url.startswith(own) else None)
    page.on("console", lambda line: strayed.append(line.text) if "Content Security Policy" in line.text else None)
    page.on("pageerror", lambda error: strayed.append(str(error)))
    page.on("dialog", lambda dialog: (strayed.append(dialog.message), dialog.dismiss()))
    page.goto(link)
    page.locator("#position", has_text="of").wait_for()
    yield page
    context.close()
    assert strayed == []


@pytest.fixture
def page(browser, served):
    with opened(browser, served.link) as window:
        yield window


def press(page, key):
    """Press a key, and wait until the decision is saved and the next card shown."""
    with page.expect_response("**/api/decisions"):
        page.keyboard.press(key)
    page.wait_for_function("() => !busy")


def decisions(served):
    return Former.read(served.session.table.path).decisions


@in_browser
def test_keys_decide(page, served):
    press(page, "k")  # a conflict, which stays one
    press(page, "d")
    press(page, "t")
    assert decisions(served) == {
        "rose/1.jpg": Decision("keep"),
        "tulip/1.jpg": Decision("drop"),
        "tulip/2.jpg": Decision("relabel", "rose"),
    }
    assert page.locator("#position").inner_text() == "4 of 6"
    assert page.locator("#done").inner_text() == "3 of 6 done"
    assert "now Rose" in page.locator("#status").inner_text()


@in_browser
def test_class_is_chosen_by_typing(page, served):
    page.keyboard.press("/")
    page.keyboard.type("tul")
    assert page.locator("#classes li").all_inner_texts() == ["<b>Tulip</b> (tulip)"]
    press(page, "Enter")
    assert decisions(served) == {"rose/1.jpg": Decision("relabel", "tulip")}
    assert page.locator("#position").inner_text() == "3 of 6"  # the second one is settled


@in_browser
def test_undo_goes_back(page, served):
    press(page, "d")
    press(page, "u")
    assert decisions(served) == {}
    assert page.locator("#position").inner_text() == "1 of 6"
    assert page.locator("#verdict").is_hidden()


@in_browser
def test_summary_has_the_command(page, served):
    press(page, "t")
    for _ in range(4):
        press(page, "k")
    assert page.locator("#summary-title").inner_text() == "All cards are done"
    assert page.locator("#command").inner_text() == served.session.texts.command
    page.reload()
    assert page.locator("#summary-title").inner_text() == "All cards are done"


@in_browser
def test_filter_shows_one_finding(page):
    page.locator("#filter").select_option("near_leak")
    assert page.locator("#position").inner_text() == "1 of 2"
    page.keyboard.press("ArrowRight")
    assert page.locator("#test").is_visible()


@in_browser
def test_second_tab_does_not_overrule(browser, page, served):
    with opened(browser, served.link) as second:
        press(page, "d")
        press(second, "k")
        assert "decided elsewhere meanwhile" in second.locator("#problem").inner_text()
        assert second.locator("#verdict").inner_text() == "dropped"
        assert decisions(served) == {"rose/1.jpg": Decision("drop")}


@in_browser
def test_stopped_server_is_said(page, served):
    served.session.table.path.write_text("of another program")
    press(page, "k")
    assert "another program has changed it" in page.locator("#problem").inner_text()


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_needs_no_sideways_scrolling(browser, served, scheme):
    with opened(browser, served.link, viewport={"width": 390, "height": 844}, color_scheme=scheme) as window:
        for _ in range(6):
            assert window.evaluate("document.documentElement.scrollWidth") <= 390
            assert window.locator("#keep").is_visible()
            window.keyboard.press("ArrowRight")


@in_browser
def test_link_without_token_shows_nothing(browser, served):
    page = browser.new_page()
    page.goto(served.link.partition("#")[0])
    assert "Open the link that" in page.locator("#nothing").inner_text()
    assert page.locator("#card").is_hidden()
    page.close()
