"""The deps of dvc.yaml name all the code that a stage's output depends on, and no more than that for `export`."""

import subprocess
import sys
from functools import cache
from pathlib import Path, PurePosixPath

import pytest
import yaml

from tests import test_law
from tests.support.project import REPOSITORY
from tests.test_law import room

STAGES = ("download", "extract", "encode", "train", "evaluate", "export")
# Their behaviour is in no output: errors, files and locks; the reading of params.yaml; MLflow; the tables of tasks.
NO_OUTPUT = {"core", "config", "tracking", "cli", "flowerml"}
# `export` registers a version. What it reads with, and how it asks the registry, changes nothing of that version.
NOT_EXPORTED = ("data/", "registry/client", "evaluation/", "tasks/")
SERVED = """
import json, sys
import flowerml.serving.pyfunc
from flowerml.tasks.registry import TASKS
print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] == "flowerml")))
"""


def deps(stage: str, kind: str = "image") -> list[PurePosixPath]:
    """Return the code among a stage's deps, of a pipeline of one kind."""
    whole = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    listed = (dep.replace("${item}", kind) for dep in whole["stages"][stage]["do"]["deps"])
    return [PurePosixPath(dep) for dep in listed if not dep.startswith(("data/", "models/", "reports/"))]


@cache
def modules() -> dict[str, Path]:
    """Return each module's file by its dotted name; finding them takes a tenth of a second."""
    return test_law.modules(REPOSITORY)


@cache
def targets(name: str) -> frozenset[str]:
    """Return the modules that a module imports."""
    return frozenset(target for _, target in test_law.imports(modules()[name], set(modules())))


def files(names: set[str]) -> set[PurePosixPath]:
    """Return the files of modules, as dvc.yaml would name them."""
    paths = modules()
    return {PurePosixPath(paths[name].relative_to(REPOSITORY)) for name in names}


def imported(start: str) -> set[str]:
    """Return the modules that a module imports, at whatever depth, without those of a task."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen and room(name) not in NO_OUTPUT | {"tasks"}:
            seen.add(name)
            waiting += targets(name)
    return seen


def covered(file: PurePosixPath, listed: list[PurePosixPath]) -> bool:
    return any(file == dep or dep in file.parents for dep in listed)


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_deps_are_complete(stage):
    listed = deps(stage)
    empty = {name for name in modules() if modules()[name].name == "__init__.py"}
    missing = [file for file in files(imported(f"flowerml.pipeline.{stage}") - empty) if not covered(file, listed)]
    assert sorted(map(str, missing)) == []


def test_deps_of_export_are_what_it_registers():
    needed = {
        file
        for file in files(imported("flowerml.pipeline.export"))
        if file.name != "__init__.py" and not str(file).startswith(tuple(f"flowerml/{part}" for part in NOT_EXPORTED))
    }
    assert [str(file) for file in sorted(needed) if not covered(file, deps("export"))] == []


@pytest.fixture(scope="module")
def loaded_by_pyfunc() -> list[str]:
    """Return the modules of flowerml that a process has which loads a served model."""
    done = subprocess.run([sys.executable, "-c", SERVED], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return yaml.safe_load(done.stdout)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_deps_of_export_are_what_the_pyfunc_loads(kind, loaded_by_pyfunc):
    other = {"image": "text", "text": "image"}[kind]
    loaded = {name for name in loaded_by_pyfunc if not name.startswith(f"flowerml.tasks.{other}")}
    served = {file for file in files(loaded) if file.name != "__init__.py" or kind in file.parts}
    listed = deps("export", kind)
    assert [str(file) for file in sorted(served) if not covered(file, listed)] == []
    not_served = [
        str(dep)
        for dep in listed
        if str(dep).startswith(("flowerml/core", "flowerml/engine", "flowerml/classifier", "flowerml/serving"))
        and not any(covered(file, [dep]) for file in files(loaded))
    ]
    assert not_served == []


def test_folders_and_files_of_deps_exist():
    for stage in STAGES:
        for kind in ("image", "text"):
            assert [str(dep) for dep in deps(stage, kind) if not (REPOSITORY / dep).exists()] == []


@pytest.mark.parametrize(
    ("stage", "output"),
    [
        ("train", "models/${key}/classifier"),
        ("train", "models/${key}/repeats"),
        ("export", "models/${key}/mlflow"),
    ],
)
def test_dvc_keeps_the_former_model(stage, output):
    whole = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    # DVC deletes other outputs when the stage starts, so a killed training would leave no classifier.
    assert {output: {"persist": True}} in whole["stages"][stage]["do"]["outs"]
