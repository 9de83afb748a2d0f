"""Command lines in fences: whether their commands, options and parameters exist. Nothing is run."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import typer

from docsite.markdown import REPOSITORY
from docsite.reference import params

SEPARATORS = {"&&", "||", ";", "|", "&", "(", ")"}
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
OURS = re.compile(r"flowerml(?:\[([\w,-]+)\])?(?:[=<>~!].*)?")  # as pip takes it


def problems(script: str) -> Iterator[str]:
    """Yield what is wrong with a shell script's command lines."""
    for words in commands(script):
        try:
            problem = _problem(words)
        except typer.TyperException as error:
            problem = error.format_message()
        if problem:
            yield f"{shlex.join(words)}: {problem}"


def commands(script: str) -> Iterator[list[str]]:
    """Yield the commands of a script as words, without assignments in front of them.

    >>> list(commands("A=1 make test && flowerml train x \\\\\\n  --epochs 3  # few"))
    [['make', 'test'], ['flowerml', 'train', 'x', '--epochs', '3']]
    """
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();&|")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in SEPARATORS:
                if words:
                    yield words
                words = []
            elif words or not ASSIGNMENT.match(word):
                words.append(word)


def _problem(words: Sequence[str]) -> str | None:
    match words:
        case ["flowerml", *rest]:
            return _flowerml(rest)
        case ["make", *rest]:
            unknown = [word for word in rest if "=" not in word and not word.startswith("-") and word not in targets()]
            return f"no such target: {unknown[0]}" if unknown else None
        case ["dvc", *rest]:
            return _dvc(rest)
        case ["pip", "install", *rest] | ["python", "-m", "pip", "install", *rest]:
            return _pip(rest)
        case ["python", "-m", module, *_]:
            return None if find_spec(module) else f"no such module: {module}"
        case ["python", script, *_] if script.endswith(".py") and "/" in script:
            return None if (REPOSITORY / script).is_file() else f"no such file: {script}"
    return None


def _flowerml(words: list[str]) -> str | None:
    """Return what is wrong with a command of flowerml; raises what typer raises for a wrong option."""
    group = _app()
    if words and all(word in _options(group) for word in words):
        return None  # --version exits at once
    parent = group.context_class(group, info_name="flowerml", **group.context_settings)
    name, command = "flowerml", group
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        if name not in command.commands:
            return f"no such command: {name}"
        command = command.commands[name]
    if not any(word in ("-h", "--help") for word in words):
        command.make_context(name, [word for word in words if word not in (">", "<")], parent=parent)
    return _changes(words, ("--set", "-S"))


def _options(command: Any) -> set[str]:
    return {"-h", "--help", *(name for parameter in command.params for name in parameter.opts)}


def _dvc(words: list[str]) -> str | None:
    from dvc.cli import DvcParserError
    from dvc.cli.parser import get_main_parser

    try:
        get_main_parser().parse_args(words)
    except SystemExit as error:
        return "wrong command line of dvc" if error.code else None
    except DvcParserError as error:
        return f"wrong command line of dvc: {error}"
    return _changes(words, ("--set-param", "-S"), in_project=True)


def _changes(words: Sequence[str], options: Sequence[str], *, in_project: bool = False) -> str | None:
    """Return what is wrong with the parameters that options set; in a project a pipeline's name is first."""
    for option, change in pairwise(words):
        if option in options:
            name = change.partition("=")[0]
            name = name.partition(".")[2] if in_project else name
            known = name.startswith("train.search.space.") or name in _parameters()
            if not known:
                return f"no such parameter: {name}"
    return None


def _pip(words: Sequence[str]) -> str | None:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for word in words:
        match = OURS.fullmatch(word)
        for extra in match[1].split(",") if match and match[1] else []:
            if extra not in extras:
                return f"no such extra: {extra}"
    return None


@cache
def targets() -> frozenset[str]:
    """Return the targets of the Makefile."""
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^([a-z-]+):", text, re.MULTILINE))


@cache
def _app() -> Any:
    from flowerml.cli.app import app

    return typer.main.get_command(app)


@cache
def _parameters() -> frozenset[str]:
    return frozenset(params.parameters())
