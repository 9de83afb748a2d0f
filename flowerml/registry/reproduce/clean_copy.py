"""A clean copy of the project, at the commit and with the parameters of a registered version."""

import os
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from flowerml.config.dotted import flatten, set_by_dotted_name
from flowerml.config.entries import entry
from flowerml.config.params import PARAMS_FILE, read
from flowerml.config.paths import DOWNLOADS
from flowerml.core import files
from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError, ModelError, ParamsError
from flowerml.core.urls import without_secrets
from flowerml.registry.reproduce.recorded import Recorded
from flowerml.tracking import lineage

# Parameters that may name the user's own files, which a clean copy lacks.
FILE_PARAMETERS = ("data.source", "data.category_names", "data.split.table", "encode.weights")


def clean_copy(recorded: Recorded, project: Path, scratch: Path) -> Path:
    """Copy the project as it was when a version was made to a folder below `scratch`; return it. Raises FlowermlError.

    The copy has the version's parameters and no computed results. It shares downloads with the project: their digests
    are checked anyway.
    """
    commit = recorded.facts.get("git_commit")
    if commit is None:
        raise ModelError(f"{recorded.title} was made outside a git repository, so there is no commit to copy")
    top, inside = _repository(project)
    _check_commit(recorded, commit, top)
    scratch.mkdir(parents=True, exist_ok=True)
    clone = scratch / "project"
    # --shared, as a clone has no commits that are on no branch, such as those of DVC experiments.
    _git(["clone", "--quiet", "--shared", "--no-checkout", str(top), str(clone)], scratch, "the project")
    _git(["checkout", "--quiet", "--detach", commit], clone, f"commit {commit[:12]} of {recorded.title}")
    if recorded.patch:
        patch = scratch / lineage.PATCH
        patch.write_bytes(recorded.patch)
        _git(["apply", "--whitespace=nowarn", str(patch)], clone, "the code with its uncommitted changes")
    copy = clone / inside
    if not (copy / "dvc.yaml").is_file():
        raise ModelError(
            f"{recorded.title}: its commit {commit[:12]} has no dvc.yaml in {project}, so it has no pipeline to run; a "
            "version can be reproduced in a project whose stages are committed (flowerml init writes one)"
        )
    for computed in ("dvc.lock", *(f"{folder}/{recorded.pipeline}" for folder in ("data", "models", "reports"))):
        files.remove(copy / computed)
    _share_downloads(project, copy)
    _write_params(recorded, project, copy)
    # An empty cache, neither a shared one nor this machine's, so that every stage runs.
    cache = (scratch / "cache").as_posix()
    (copy / ".dvc").mkdir(exist_ok=True)
    (copy / ".dvc/config.local").write_text(f"[core]\n    analytics = false\n[cache]\n    dir = {cache}\n", "utf-8")
    return copy


def _write_params(recorded: Recorded, project: Path, copy: Path) -> None:
    """Write the version's params.yaml to the copy, with paths to the user's files that hold from there."""
    values = deepcopy(recorded.params)  # in its order: a search draws in the order of its space
    sections = values[recorded.pipeline]
    parameters = flatten(sections)
    # Where the threads were left to the machine, take the number of the machine that made the version.
    changes: dict[str, Any] = {"train.threads": parameters["train.threads"] or int(recorded.facts["threads"])}
    for name in FILE_PARAMETERS:
        path = parameters.get(name)
        if isinstance(path, str) and not (copy / path).exists() and (project / path).exists():
            changes[name] = str((project / path).resolve())
    changes.setdefault("data.source", _source_with_secrets(recorded, project))
    set_by_dotted_name(sections, changes)
    (copy / PARAMS_FILE).write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _source_with_secrets(recorded: Recorded, project: Path) -> str:
    """Return the source of a version, with the password and query that the project's params.yaml still has.

    Raises ModelError where it was recorded without its query and params.yaml no longer has it.
    """
    source = str(recorded.params[recorded.pipeline]["data"]["source"])
    path = project / PARAMS_FILE
    try:
        current = str(entry(read(path), recorded.pipeline, path).sections["data"]["source"])
    except (ParamsError, KeyError, TypeError):
        current = source
    if without_secrets(current) == source:
        return current
    if without_secrets(f"{source}?key") == source:
        raise ModelError(
            f"{recorded.title}: the query of {source} was not recorded; put the full URL into {PARAMS_FILE}"
        )
    return source


def _share_downloads(project: Path, copy: Path) -> None:
    downloads = project / DOWNLOADS
    if downloads.is_dir() and not (copy / DOWNLOADS).exists():
        (copy / DOWNLOADS).parent.mkdir(parents=True, exist_ok=True)
        (copy / DOWNLOADS).symlink_to(downloads.resolve())


def _repository(project: Path) -> tuple[Path, Path]:
    """Return the top of the git repository that has a folder, and the folder relative to it; raises FlowermlError."""
    if shutil.which("git") is None:
        raise FlowermlError("git is needed to make a clean copy, and is not installed")
    try:
        top = _git(["rev-parse", "--show-toplevel"], project, f"a git repository at {project}").strip()
    except FlowermlError:
        raise FlowermlError(
            f"{project} is in no git repository; run this in the one that has the version's commit"
        ) from None
    return Path(top), project.resolve().relative_to(Path(top).resolve())


def _check_commit(recorded: Recorded, commit: str, top: Path) -> None:
    try:
        _git(["cat-file", "-e", f"{commit}^{{commit}}"], top, "the commit")
    except FlowermlError:
        raise ModelError(
            f"{recorded.title}: its commit {commit[:12]} is not in the git repository {top}; fetch the branch that it "
            "was made on, or run this in a clone that has it"
        ) from None


def _git(arguments: list[str], folder: Path, subject: str) -> str:
    """Return the output of a git command; raises FlowermlError, which says that `subject` is not available."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=inherited_environment(),
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise FlowermlError(f"{subject} is not available: {one_line(done.stderr, 300)}")
    return done.stdout


def inherited_environment() -> dict[str, str]:
    """Return the environment without variables that point git, MLflow, DVC or Python at another place or run."""
    excluded = ("GIT_", "MLFLOW_RUN", "MLFLOW_EXPERIMENT", "MLFLOW_TRACKING", "MLFLOW_REGISTRY", "DVC_", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(excluded)}
