"""The site's pages are those of docs/, with links that stay inside."""

import pytest

from docsite import staging
from docsite.links import dead
from docsite.markdown import DOCS, REPOSITORY, Page


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged") / "docs"
    staging.stage(folder)
    return folder


@pytest.fixture
def relinked(tmp_path):
    """Return a function that returns the text of docs/how-to/page.md as a page of the site."""

    def changed(text: str) -> str:
        page = Page(DOCS / "how-to" / "page.md")
        page.__dict__["text"] = text  # where its file would be read into
        places = {REPOSITORY / "CHANGELOG.md": "changelog.md", DOCS / "limits.md": "limits.md"}
        return staging.relinked(page, "how-to/page.md", places, tmp_path)

    return changed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[a](../limits.md#known)", "[a](../limits.md#known)"),
        ("[a](../../CHANGELOG.md)", "[a](../changelog.md)"),
        ("[a](../../examples/traffic.py)", "[a](../files/examples/traffic.py)"),
        ("![a](../images/report.png)", "![a](../images/report.png)"),
        ("[a](https://example.com/../CHANGELOG.md)", "[a](https://example.com/../CHANGELOG.md)"),
        ("`[a](../../CHANGELOG.md)`", "`[a](../../CHANGELOG.md)`"),
    ],
)
def test_links_lead_to_pages_of_the_site(relinked, before, after):
    assert relinked(before) == after


def test_words_behind_a_language_are_left_out(relinked):
    assert relinked("```console numbers=any\n$ a\n```\n\n```sh\nb\n```") == "```console\n$ a\n```\n\n```sh\nb\n```"


def test_a_linked_file_is_in_the_site(relinked, tmp_path):
    relinked("[a](../../examples/traffic.py)")
    assert (tmp_path / "files/examples/traffic.py").is_file()


def test_no_link_of_the_site_is_dead(staged, monkeypatch):
    for name in ("flowers", "reviews"):
        page = staged / "notebooks" / f"{name}.md"
        page.parent.mkdir(exist_ok=True)
        page.touch()
    monkeypatch.setattr("docsite.links.REPOSITORY", staged)
    monkeypatch.setattr("docsite.markdown.REPOSITORY", staged)
    faults = [line for path in sorted(staged.rglob("*.md")) for line in dead(Page(path))]
    assert faults == []
