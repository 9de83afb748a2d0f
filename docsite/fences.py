"""Fenced blocks: whether what they show is well-formed. `docsite.session` runs those that can run.

```console   run; the lines below each `$ command` are what it prints, `…` is any text
```sh        not run, but its commands, options and parameters exist; `sh run` is run as well
```python    compiles, and what it imports from flowerml exists; `python run` is run as well
```yaml      parses, and parameters are valid; `yaml any` only parses
```json ```toml  parse
```text      anything
"""

import ast
import importlib
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from docsite import commands, console
from docsite.markdown import Fence, Page
from flowerml.config import defaults
from flowerml.config.inherit import inherit
from flowerml.config.params import Loader
from flowerml.config.pipeline import SECTIONS
from flowerml.core.errors import FlowermlError
from flowerml.tasks.pipelines import checked_pipeline, load_pipeline
from flowerml.tasks.registry import TASKS

FLAGS = {"console": {"background", "numbers=any"}, "sh": {"run"}, "python": {"run"}, "yaml": {"any"}}


def problems(page: Page) -> Iterator[str]:
    """Yield a line for each fence of a page that is not well-formed."""
    for fence in page.fences():
        for problem in _problems(fence):
            yield f"{page.name}:{fence.line}: {problem}"


def _problems(fence: Fence) -> Iterator[str]:
    check = CHECKS.get(fence.language)
    if check is None:
        yield f"expected a language, one of {', '.join(CHECKS)}; found {fence.language or 'none'}"
        return
    for flag in set(fence.flags) - FLAGS.get(fence.language, set()):
        yield f"unknown word {flag!r} after {fence.language}"
    try:
        yield from check(fence)
    except (ValueError, SyntaxError, yaml.YAMLError, FlowermlError, ImportError) as error:
        yield " ".join(str(error).split())


def _shell(fence: Fence) -> Iterator[str]:
    yield from commands.problems(fence.text)


def _console(fence: Fence) -> Iterator[str]:
    for step in console.steps(fence):
        yield from commands.problems(step.command)


def _python(fence: Fence) -> Iterator[str]:
    for node in ast.walk(ast.parse(fence.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flowerml":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
    yield from ()


def _yaml(fence: Fence) -> Iterator[str]:
    for values in yaml.load_all(fence.text, Loader):
        if "any" not in fence.flags and isinstance(values, dict):
            yield from _parameters(values)


def _parameters(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with parameters of pipelines, or of one; nothing where the values are none of these."""
    if isinstance(values.get("pipelines"), dict):
        yield from _file(values)
    elif values and all(key in SECTIONS for key in values):
        yield from _section("pipeline", values)
    else:
        for name, given in values.items():
            if isinstance(given, dict) and given and all(key in SECTIONS for key in given):
                yield from _section(name, given)


def _file(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a whole params.yaml."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        for name in values["pipelines"]:
            try:
                load_pipeline(name, path)
            except FlowermlError as error:
                yield str(error)


def _section(name: str, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a pipeline's parameters: nothing where they are right for one of the kinds."""
    problem = ""
    for kind in reversed(TASKS):
        try:
            values = inherit(dict(given), defaults.shipped(kind), name=name)
            checked_pipeline(name, kind, values, path=Path("params.yaml"))
            return
        except FlowermlError as error:
            problem = str(error)
    yield problem


def _json(fence: Fence) -> Iterator[str]:
    try:
        json.loads(fence.text)
    except ValueError:
        for line in fence.text.splitlines():
            json.loads(line)
    yield from ()


def _toml(fence: Fence) -> Iterator[str]:
    tomllib.loads(fence.text)
    yield from ()


def _anything(fence: Fence) -> Iterator[str]:
    yield from ()


CHECKS: dict[str, Callable[[Fence], Iterator[str]]] = {
    "console": _console,
    "sh": _shell,
    "python": _python,
    "yaml": _yaml,
    "json": _json,
    "toml": _toml,
    "text": _anything,
}
