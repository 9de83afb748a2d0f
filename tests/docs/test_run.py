"""Every fence of a terminal is run, page by page, and prints what the page says."""

import shutil

import pytest

from docsite.markdown import DOCS, Page, pages
from docsite.session import Session, prepare

pytestmark = pytest.mark.extended

RUN = [page for page in pages() if any(f.language == "console" or "run" in f.flags for f in page.fences())]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return a folder with the pictures and reviews that pages begin with."""
    folder = tmp_path_factory.mktemp("prepared") / "here"
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def read(tmp_path_factory, prepared):
    """Return a function that reads a page once and returns its folder and faults."""
    done = {}

    def once(page: Page):
        if page.name not in done:
            folder = tmp_path_factory.mktemp("page")
            before = page.runs_after()
            start = once(Page(DOCS / before))[0] / "here" if before else prepared
            shutil.copytree(start, folder / "here", symlinks=True)
            with Session(folder) as session:
                done[page.name] = folder, list(session.read(page))
        return done[page.name]

    return once


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_page_prints_what_it_says(read, page):
    faults = read(page)[1]
    assert not faults, faults[0]
