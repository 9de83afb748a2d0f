"""The pages that people read: links, fences, the site's order, and the reference that is made from the code."""

import re

import pytest
import yaml

from docsite import fences, links
from docsite.markdown import DOCS, REPOSITORY, Page, pages
from docsite.reference import MADE, cli, params
from docsite.staging import TOPS
from flowerml.data.findings import KINDS
from flowerml.tasks.registry import TASKS

# Pages of the site that are made from other files.
MADE_AT_BUILD = {*TOPS, "notebooks/flowers.md", "notebooks/reviews.md"}


def test_no_link_is_dead():
    assert [line for page in pages() for line in links.dead(page)] == []


def test_fences_are_well_formed():
    assert [line for page in pages() for line in fences.problems(page)] == []


def test_every_page_is_in_the_order_of_the_site():
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2].partition("theme:")[0]
    named = re.findall(r": ([\w/-]+\.md)$", navigation, re.MULTILINE)
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(named) == sorted(written | MADE_AT_BUILD)


@pytest.mark.parametrize("name", MADE)
def test_reference_is_as_the_code_says(name):
    page = DOCS / "reference" / name
    assert page.read_text(encoding="utf-8") == MADE[name](), "run `make reference`"


def test_every_command_has_a_section():
    import typer

    from flowerml.cli.app import app

    commands = {name for name, _ in cli.walk(typer.main.get_command(app), "flowerml")}
    assert commands and commands <= set(Page(DOCS / "reference/cli.md").headings())


def test_every_parameter_has_a_row():
    text = (DOCS / "reference/params.md").read_text(encoding="utf-8")
    shipped = yaml.safe_load((REPOSITORY / "flowerml/config/defaults.yaml").read_text(encoding="utf-8"))
    assert set(shipped["pipelines"].values()) == set(TASKS)
    assert [name for name in params.parameters() if f"| `{name}` |" not in text] == []


def test_every_parameter_has_a_meaning():
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| ([^|]*) \|$", (DOCS / "reference/params.md").read_text(), re.MULTILINE)
    assert len(rows) == len(params.parameters())
    assert [name for name, meaning in rows if not meaning.strip()] == []


def test_every_finding_has_a_row():
    text = (DOCS / "reference/findings.md").read_text(encoding="utf-8")
    assert [name for name in KINDS if f"| `{name}` |" not in text] == []
