"""The law of imports: a room may import itself and the rooms below it, and there are no circles."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.project import REPOSITORY

# From the ground up. Rooms on one floor do not import each other, type-only imports included.
FLOORS = (
    ("core",),
    ("data", "engine"),
    ("config",),
    ("tasks", "tracking"),
    ("checks", "classifier", "search"),
    ("serving",),
    ("evaluation", "web"),
    ("registry", "review"),
    ("monitoring",),
    ("server",),
    ("pipeline", "project"),
    ("cli",),
    ("flowerml", "stages"),  # the package's own modules, and the stages
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
PIPELINE_ROOMS = {"config", "pipeline", "cli", "flowerml", "stages"}
# Where pipelines are read, with the types of their task.
PIPELINE_READERS = {"flowerml.tasks.pipelines", "flowerml.tasks.registry"}


def modules(root: Path) -> dict[str, Path]:
    """Return each module's file by its dotted name."""
    files = [*root.glob("flowerml/**/*.py"), *root.glob("stages/*.py")]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(file: Path, known: set[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of each import of our own modules, at any depth of the file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: imports are absolute here"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in known or node.module in known:
                    yield node.lineno, name if name in known else node.module


def room(module: str) -> str:
    """Return the room a module lies in; the modules of the package itself are in `flowerml`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else parts[0]


def faults(root: Path) -> list[str]:
    """Return a line for each import that breaks the law below `root`."""
    files = modules(root)
    lines = []
    for name, file in sorted(files.items()):
        for line, target in imports(file, set(files)):
            here, there = room(name), room(target)
            lazy_export = (name, target) == ("flowerml", "flowerml.classifier.classifier")
            if here != there and FLOOR[there] >= FLOOR[here] and not lazy_export:
                lines.append(f"{file.relative_to(root)}:{line}: {here} may not import {there} ({target})")
    return lines


def test_imports_point_downward():
    assert faults(REPOSITORY) == []


def test_every_folder_is_a_room_with_a_floor():
    folders = {path.parent.name for path in REPOSITORY.glob("flowerml/*/__init__.py")}
    assert folders <= set(FLOOR)


def test_modules_import_without_circles():
    files = modules(REPOSITORY)
    graph = {name: {target for _, target in imports(file, set(files))} - {name} for name, file in files.items()}
    assert list(TopologicalSorter(graph).static_order())


def test_only_pipeline_and_above_take_a_pipeline():
    named = [
        file.relative_to(REPOSITORY)
        for name, file in modules(REPOSITORY).items()
        if room(name) not in PIPELINE_ROOMS and name not in PIPELINE_READERS
        for _, target in imports(file, {"flowerml.config.pipeline"})
    ]
    assert named == []


@pytest.mark.parametrize(
    ("module", "line", "fault"),
    [
        ("flowerml/core/files.py", "from flowerml.cli import output", "core may not import cli"),
        ("flowerml/data/split.py", "def f():\n    import flowerml.engine.fit", "data may not import engine"),
        (
            "flowerml/tasks/base.py",
            "if TYPE_CHECKING:\n    from flowerml.checks import page",
            "tasks may not import checks",
        ),
    ],
)
def test_an_import_that_points_upward_is_found(tmp_path, module, line, fault):
    for file in modules(REPOSITORY).values():
        copied = tmp_path / file.relative_to(REPOSITORY)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    path = tmp_path / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    assert [fault in found for found in faults(tmp_path)] == [True]
