"""The site is built without a network, and a browser asks no other host for any of its pages."""

import pytest

from docsite import site
from docsite.markdown import DOCS, Page, numbered, site_slug
from tests.support.browser import in_browser


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder of the built site."""
    return site.build(tmp_path_factory.mktemp("site")).parent


@pytest.mark.extended
def test_every_page_is_built(built):
    written = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    pages = {path.relative_to(built).as_posix() for path in built.rglob("*.html")}
    assert written | {"index.html", "changelog.html", "notebooks/flowers.html"} <= pages


@pytest.mark.extended
def test_every_heading_is_an_anchor(built):
    missing = []
    for page in map(Page, DOCS.rglob("*.md")):
        html = (built / page.path.relative_to(DOCS)).with_suffix(".html").read_text(encoding="utf-8")
        anchors = numbered(map(site_slug, page.headings()), "_")
        missing += [f"{page.name}#{anchor}" for anchor in anchors if f'id="{anchor}"' not in html]
    assert missing == [], "a fence that the site does not take for one swallows what follows"


@pytest.mark.extended
@in_browser
def test_a_browser_asks_no_other_host(built, browser):
    page = browser.new_page()
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto((built / "index.html").as_uri())
    page.get_by_role("button", name="Search").first.click()
    page.wait_for_function("document.activeElement !== document.body")
    page.keyboard.type("promote", delay=20)
    page.locator('a[href*="promote-rollback.html?h=promote"]').first.wait_for()
    page.close()
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob", "about"}
    assert failed == []


def test_what_a_page_would_load_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<link rel="canonical" href="https://a.example/"><a href="https://b.example/">b</a>'
        '<script src="https://c.example/x.js"></script><img src=//d.example/y.png>'
    )
    (tmp_path / "a.css").write_text("@import 'https://e.example/z.css'; b { background: url(local.png) }")
    assert len(site.outside(tmp_path)) == 3
