"""What the tests of pages rest on: dead links, wrong command lines and other outputs are found."""

import pytest

from docsite import commands, fences, links
from docsite.console import Step, steps
from docsite.markdown import REPOSITORY, Fence, Page
from docsite.session import Session


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Return a function that makes a page of a text, in a repository of its own."""
    monkeypatch.setattr("docsite.markdown.REPOSITORY", tmp_path)
    monkeypatch.setattr(links, "REPOSITORY", tmp_path)

    def made(text: str) -> Page:
        path = tmp_path / "page.md"
        path.write_text(text, encoding="utf-8")
        return Page(path)

    return made


@pytest.mark.parametrize(
    "link", ["other.md", "#nothing", "page.md#nothing", "https:///path", "ftp://example.com/a", "../../etc/passwd"]
)
def test_a_dead_link_is_found(page, link):
    assert len(list(links.dead(page(f"# Title\n\nSee [it]({link}).\n")))) == 1


@pytest.mark.parametrize("link", ["page.md", "#a-title", "page.md#a-title", "https://example.com/a?b#c", "a%20b.png"])
def test_a_good_link_passes(page, tmp_path, link):
    (tmp_path / "a b.png").touch()
    assert list(links.dead(page(f"# A title\n\nSee [it]({link}).\n"))) == []


def test_pictures_in_html_are_links(page):
    assert len(list(links.dead(page('<p align="center"><img src="none.svg"></p>\n')))) == 1


def test_links_in_fences_are_none(page):
    assert list(links.dead(page("```text\n[a](none.md)\n```\n"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "flowerml trian my_pictures/",
        "flowerml train my_pictures/ --epoch-count 3",
        "flowerml train my_pictures/ --epochs many",
        "flowerml train my_pictures/ --set train.learning_rat=0.1",
        "cd project && make tset",
        "FLOWERML_WORKERS=2 dvc exp run -S flowers.train.learning_rat=0.1",
        "dvc exp run --no-such-option",
        "python benchmarks/none.py",
        "python -m flowerml.none",
        "pip install 'flowerml[trian]'",
        "flowerml models; flowerml trian x",
    ],
)
def test_a_wrong_command_line_is_found(line):
    assert len(list(commands.problems(line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "flowerml train my_pictures/ --epochs 3 --learning_rate 0.1 --set train.search.space.dropout=[0.1]   # quick",
        "flowerml --version; flowerml train --help",
        "flowerml predict rose.jpg --json > answers.jsonl",
        "make repro && make serve MODEL=models/flowers/classifier",
        "dvc exp run export@reviews -S 'reviews.train.search.space.network=[ngrams,blend]'",
        "pip install 'flowerml[train,serve]'",
        "python benchmarks/encode.py flower_data.tar.gz --images 1000",
    ],
)
def test_a_right_command_line_passes(line):
    assert list(commands.problems(line)) == []


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("yaml", "train: {learning_rat: 0.1}"),
        ("yaml", "flowers: {train: {epochs: none}}"),
        ("yaml", "pipelines: {flowers: imgae}"),
        ("yaml", "a: [1"),
        ("python", "from flowerml import Clasifier"),
        ("python", "for"),
        ("json", '{"a": …}'),
        ("toml", "a ="),
        ("console", "flowerml models"),
        ("console", "$ flowerml modles"),
        ("bash", "ls"),
        ("", "ls"),
        ("sh quietly", "ls"),
    ],
)
def test_a_wrong_fence_is_found(page, language, text):
    assert len(list(fences.problems(page(f"```{language}\n{text}\n```\n")))) == 1


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("yaml", "train: {learning_rate: 0.1}"),
        ("yaml", "pipelines: {flowers: image}\nflowers: {data: {source: my_pictures}}"),
        ("yaml", "train: {network: ngrams}"),
        ("yaml any", "train: {learning_rat: 0.1}"),
        ("python run", "from flowerml import Classifier"),
        ("json", '{"a": 1}\n{"a": 2}'),
        ("text", "anything {"),
    ],
)
def test_a_right_fence_passes(page, language, text):
    assert list(fences.problems(page(f"```{language}\n{text}\n```\n"))) == []


def test_steps_have_outputs_and_exit_codes():
    text = "$ a \\\n  b\none\n\n$ c   # exit 3\n$ d\n…\n"
    assert list(steps(Fence("console", (), text, 1))) == [
        Step("a \\\n  b", 0, ("one",)),
        Step("c", 3, ()),
        Step("d", 0, ("…",)),
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (("accuracy 0.9…",), "accuracy 0.9123\n", True),
        (("accuracy 0.9…",), "accuracy 0.8123\n", False),
        (("a", "…", "z"), "a\nb\nc\nz\n", True),
        (("a", "…"), "a\n", True),
        (("a",), "a\nb\n", False),
        (("done",), "10 %\r100 %\rdone   \n", True),
        (("(a+b)",), "\x1b[1m(a+b)\x1b[0m\n", True),
        ((), "whatever\n", True),
    ],
)
def test_outputs_are_compared(shown, printed, same):
    assert Step("x", 0, shown).matches(printed) is same


def test_numbers_may_be_any():
    assert Step("x", 0, ("0.91 in 12 s",), any_number=True).matches("0.87 in 9 s\n")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("```console\n$ cd a\n$ export B=1\n```\n\n```console\n$ basename $PWD; echo $B\na\n1\n```\n", 0),
        ("```console\n$ ls | head -1\nsomething else\n```\n", 1),
        ("```console\n$ false\n```\n", 1),
        ("```console\n$ false   # exit 1\n```\n", 0),
        ("```console background\n$ echo ready; sleep 60\nready\n```\n\n```sh run\ntrue\n```\n", 0),
        ("```console background\n$ false\nready\n```\n", 1),
        ("```python run\nraise SystemExit(3)\n```\n", 1),
    ],
)
def test_a_session_runs_a_page(page, tmp_path, text, faults):
    (tmp_path / "here" / "a").mkdir(parents=True)  # so that no pictures are drawn
    with Session(tmp_path) as session:
        assert len(list(session.read(page(text)))) == faults


def test_the_repository_has_a_readme():
    assert Page(REPOSITORY / "README.md").name == "README.md"
