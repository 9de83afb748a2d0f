"""The files of a new project, from templates: what dvc.yaml, params.yaml and the others say."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flowerml.config.paths import PACKAGE
from flowerml.project.scalars import scalar
from flowerml.tasks.registry import TASKS

HERE = Path(__file__).parent
# The template of each file, in the order they are written. A project whose dvc.yaml is there is whole, so it is last.
# .dvc is what `dvc init` makes: that takes 1 s more, and adds to the index of a repository around the project.
FILES = {
    ".gitignore": "gitignore.j2",
    ".dvcignore": "dvcignore.j2",
    ".dvc/config": "dvc-config.j2",
    ".dvc/.gitignore": "dvc-gitignore.j2",
    "MLproject": "MLproject.j2",
    "Makefile": "Makefile.j2",
    "README.md": "README.md.j2",
    "python_env.yaml": "python_env.yaml.j2",
    "requirements.txt": "requirements.txt.j2",
    "params.yaml": "params.yaml.j2",
    "dvc.yaml": "dvc.yaml.j2",
}


@dataclass(frozen=True)
class Project:
    """What a new project is about: its title, its only pipeline, and the version of flowerml that runs it.

    `source` is as params.yaml shall have it.
    """

    title: str
    name: str
    kind: str
    source: str
    version: str


def render(project: Project) -> dict[str, str]:
    """Return the text of each file of a project by its path."""
    return {**dict(_plots()), **{path: _render(template, project) for path, template in FILES.items()}}


def requirement(version: str) -> str:
    """Return the line of requirements.txt that names flowerml."""
    return f"flowerml[train,web]=={version}"


def dvc_yaml() -> str:
    """Return the dvc.yaml of every project of this version."""
    return (HERE / "templates" / FILES["dvc.yaml"]).read_text(encoding="utf-8")


def _render(template: str, project: Project) -> str:
    if template == FILES["dvc.yaml"]:
        return dvc_yaml()
    folders = [HERE / "templates", PACKAGE / "tasks" / project.kind]
    # Not escaped: these are no pages. What a user gives is quoted for YAML.
    environment = Environment(
        loader=FileSystemLoader(folders), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    return environment.get_template(template).render(
        title=project.title,
        name=project.name,
        kind=project.kind,
        source=scalar(project.source),
        version=project.version,
        pin=scalar(project.version),
        requirement=requirement(project.version),
        python="{}.{}".format(*sys.version_info),
        kinds=" or ".join(TASKS),
        inputs=f"{TASKS[project.kind].INPUT}s",
    )


def _plots() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of the templates that dvc.yaml names for its plots."""
    for path in sorted((HERE / "plots").glob("*.json")):
        yield f".dvc/plots/{path.name}", path.read_text(encoding="utf-8")
