"""A registered version made once more, in a clean copy of the project, and compared with what was recorded of it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flowerml.config.params import PARAMS_FILE, Loader
from flowerml.config.paths import DOWNLOADS, Paths
from flowerml.core import files
from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError, ModelError
from flowerml.core.urls import without_secrets
from flowerml.registry.client import mlflow_errors
from flowerml.tracking import lineage

LAST = "evaluate"  # what is registered is made by then; `export` would only register it
RUNNING = re.compile(r"Running stage '(\w+)@")
# Params that may name files of a person's, which a clean copy has not.
FILES = (("data", "source"), ("data", "category_names"), ("data", "split", "table"), ("encode", "weights"))
# Trials take as long as they take; a classifier and a report tell where their data were, so their contents count.
NOT_COMPARED = ("/trials.csv", "/classifier", "/report.html")
ERRORS_TOLD = 5

Told = Callable[[str], None]


@dataclass(frozen=True)
class Recorded:
    """What was logged with a version: see `lineage.log_lineage`. `params` is the params.yaml of its pipeline."""

    name: str
    version: str
    facts: Mapping[str, Any]
    params: dict[str, Any]
    patch: bytes

    @property
    def pipeline(self) -> str:
        return str(self.facts["pipeline"])

    @classmethod
    def read(cls, folder: Path, *, name: str, version: str) -> "Recorded":
        """What is in a folder that `lineage.log_lineage` wrote; raises ModelError where that is not whole."""
        try:
            facts = files.read_json(folder / lineage.FACTS)
            params = yaml.load((folder / lineage.PARAMETERS).read_text(encoding="utf-8"), Loader)
            patch = folder / lineage.PATCH
            return cls(name, version, facts, params, patch.read_bytes() if patch.is_file() else b"")
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ModelError(f"{name} version {version}: what was recorded of it cannot be read ({error})") from None


def load_recorded(name: str, version: str) -> Recorded:
    """Return what was logged with a version, which is given by its number or an alias. Raises ModelError.

    Versions that were registered by hand, or before lineage was recorded, have nothing.
    """
    with mlflow_errors(f"{name} version {version}: "):
        from mlflow import MlflowClient

        client = MlflowClient()
        find = client.get_model_version if version.isdecimal() else client.get_model_version_by_alias
        found = find(name, version)
        nothing = f"{name} version {found.version}: nothing was recorded of how it was made, so it cannot be made again"
        if not found.run_id:
            raise ModelError(nothing)
        with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
            if not client.list_artifacts(found.run_id, lineage.FOLDER):
                raise ModelError(nothing)
            folder = Path(client.download_artifacts(found.run_id, lineage.FOLDER, scratch))
            return Recorded.read(folder, name=name, version=str(found.version))


@dataclass(frozen=True)
class Comparison:
    """How a reproduction came out: `identical`, `within` (the stored intervals) or `different`.

    `stage` is the first one that differs, where one does, `details` what differs, a line each.
    """

    outcome: str
    stage: str | None = None
    details: tuple[str, ...] = field(default=())

    @property
    def reproduced(self) -> bool:
        """Whether that is as good as was promised."""
        return self.outcome != "different"

    def __str__(self) -> str:
        if self.outcome == "identical":
            return "identical: the same data, the same weights bit for bit, the same metrics"
        if self.outcome == "within":
            return f"within the stored intervals, but not identical: first different at stage {self.stage}"
        return f"different, first at stage {self.stage}"


def origin(recorded: Recorded) -> str:
    """Which code made a version, in a few words."""
    commit = recorded.facts.get("git_commit")
    return f"made at commit {commit[:12]}" if commit else "made outside a git repository"


def lost_changes(recorded: Recorded) -> str | None:
    """Why the code of a version cannot be had as it was; None where it can."""
    reason = recorded.facts.get("not_kept")
    return f"made with changes that were not committed, and {reason}" if reason else None


def remarks(recorded: Recorded) -> Iterator[str]:
    """What a person should know of a version before it is made again, a line each."""
    if recorded.patch:
        yield "made with changes that were not committed; they were kept, and are applied to the copy"
    if untracked := recorded.facts.get("untracked"):
        more = f" and {len(untracked) - 3} more" if len(untracked) > 3 else ""
        yield f"made beside files that git does not know ({', '.join(untracked[:3])}{more}); the copy has them not"
    here = lineage.environment()
    for name, there in recorded.facts["environment"].items():
        if here.get(name) != there:
            yield f"made with {name.removeprefix('version.')} {there}, here is {here.get(name, 'none')}"


def clean_copy(recorded: Recorded, project: Path, scratch: Path) -> Path:
    """Make a copy of the project as it was when a version was made, below `scratch`; raises FlowermlError.

    It has the version's parameters, and nothing that was computed. What was downloaded is shared with the project:
    it is checked by digests anyway.
    """
    commit = recorded.facts.get("git_commit")
    if commit is None:
        raise ModelError(f"{_of(recorded)} was made outside a git repository, so there is no commit to make a copy of")
    top, inside = _repository(project)
    scratch.mkdir(parents=True, exist_ok=True)
    clone = scratch / "project"
    # Shared, as a commit that no branch has (an experiment's) would not be cloned.
    _git(["clone", "--quiet", "--shared", "--no-checkout", str(top), str(clone)], scratch, "the project")
    _git(["checkout", "--quiet", "--detach", commit], clone, f"commit {commit[:12]}, which made {_of(recorded)},")
    if recorded.patch:
        patch = scratch / lineage.PATCH
        patch.write_bytes(recorded.patch)
        _git(["apply", "--whitespace=nowarn", str(patch)], clone, "the changes that were not committed")
    copy = clone / inside
    for computed in ("dvc.lock", *(f"{folder}/{recorded.pipeline}" for folder in ("data", "models", "reports"))):
        files.remove(copy / computed)
    _share_downloads(project, copy)
    _write_params(recorded, project, copy)
    # Neither a cache that is shared nor one that was set for this machine: every stage is to run.
    cache = (scratch / "cache").as_posix()
    (copy / ".dvc").mkdir(exist_ok=True)
    (copy / ".dvc/config.local").write_text(f"[core]\n    analytics = false\n[cache]\n    dir = {cache}\n", "utf-8")
    return copy


def run(recorded: Recorded, copy: Path, scratch: Path, *, told: Told) -> None:
    """Run the stages of a version's pipeline in its copy; `told` hears the name of each as it starts.

    Runs are recorded in a database of their own. Raises FlowermlError with what a stage had to say.
    """
    command = [sys.executable, "-m", "dvc", "repro", f"{LAST}@{recorded.pipeline}"]
    lines: list[str] = []
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(
        command, cwd=copy, env=_environment(scratch), stdout=pipe, stderr=both, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if started := RUNNING.search(line):
                told(started[1])
    if process.returncode:
        errors = [line for line in lines if line.lower().startswith("error")] or lines
        raise FlowermlError("the copy could not be run: " + " / ".join(errors[-ERRORS_TOLD:]))


def compare(recorded: Recorded, copy: Path) -> Comparison:
    """How what was made in a copy compares with what was recorded of the version."""
    from flowerml.data.examples import Examples

    paths = Paths(recorded.pipeline, copy)
    facts = recorded.facts
    metrics = files.read_json(paths.reports / "metrics.json")
    changed = {name: value for name, value in facts["metrics"].items() if metrics.get(name) != value}
    same_data = Examples(paths.examples).digest() == facts["data_digest"]
    same_weights = lineage.weights_digest(paths.classifier) == facts["weights_digest"]
    if same_data and same_weights and not changed:
        return Comparison("identical")
    details = [f"{name} {_shown(metrics.get(name))}, was {_shown(value)}" for name, value in changed.items()]
    stage, outs = _first_difference(recorded, copy, same_data=same_data, same_weights=same_weights)
    within = same_data and all(_within(metrics.get(name), facts["intervals"].get(name)) for name in changed)
    return Comparison("within" if within else "different", stage, (*outs, *details))


def _first_difference(
    recorded: Recorded, copy: Path, *, same_data: bool, same_weights: bool
) -> tuple[str, tuple[str, ...]]:
    """The first stage whose outputs DVC locked with other digests than before, and these outputs."""
    before = recorded.facts["stages"]
    after = lineage.locked_stages(recorded.pipeline, before="export", lock=copy / lineage.LOCK)
    for name in lineage.STAGES[: lineage.STAGES.index("export")]:
        earlier, later = (found.get(name, {}).get("outs", {}) for found in (before, after))
        # The classifier tells where its data were, so it is its weights that count.
        outs = [path for path in earlier if not path.endswith(NOT_COMPARED) and later.get(path) != earlier[path]]
        if name == "train" and not same_weights:
            outs.insert(0, "the weights")
        if outs:
            return name, tuple(f"{name}: {path}" for path in outs)
    return ("extract" if not same_data else "train" if not same_weights else LAST), ()


def _within(value: float | None, limits: Mapping[str, float] | None) -> bool:
    return value is not None and limits is not None and limits["low"] <= value <= limits["high"]


def _write_params(recorded: Recorded, project: Path, copy: Path) -> None:
    """The params.yaml of the version, with the places of its files as they are seen from the copy."""
    values = deepcopy(recorded.params)  # in its order: that of a search space is that of its draws
    sections = values[recorded.pipeline]
    sections["data"]["source"] = _with_secrets(recorded, project)
    for *above, last in FILES:
        section = sections
        for part in above:
            section = section.get(part) or {}
        given = section.get(last)
        if isinstance(given, str) and not (copy / given).exists() and (project / given).exists():
            section[last] = str((project / given).resolve())
    # Where the number of threads was left to the machine, it is that of the machine which made the version.
    sections["train"]["threads"] = sections["train"]["threads"] or int(recorded.facts["threads"])
    (copy / PARAMS_FILE).write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _with_secrets(recorded: Recorded, project: Path) -> str:
    """The source of a version, with the password and the query that the project's params.yaml still has for it.

    Raises ModelError where it was recorded without its query, and params.yaml has it not.
    """
    source = str(recorded.params[recorded.pipeline]["data"]["source"])
    try:
        whole = yaml.load((project / PARAMS_FILE).read_text(encoding="utf-8"), Loader)
        own = str(whole[recorded.pipeline]["data"]["source"])
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        own = source
    if without_secrets(own) == source:
        return own
    if without_secrets(f"{source}?key") == source:
        raise ModelError(f"{_of(recorded)}: of {source} the query was not recorded; put the whole URL into params.yaml")
    return source


def _share_downloads(project: Path, copy: Path) -> None:
    downloads = project / DOWNLOADS
    if downloads.is_dir() and not (copy / DOWNLOADS).exists():
        (copy / DOWNLOADS).parent.mkdir(parents=True, exist_ok=True)
        (copy / DOWNLOADS).symlink_to(downloads.resolve())


def _repository(project: Path) -> tuple[Path, Path]:
    """The top of the git repository a folder is in, and the folder as seen from there; raises FlowermlError."""
    if shutil.which("git") is None:
        raise FlowermlError("git is needed to make a clean copy, and is not installed")
    top = _git(["rev-parse", "--show-toplevel"], project, f"a git repository at {project}").strip()
    return Path(top), project.resolve().relative_to(Path(top).resolve())


def _git(arguments: list[str], folder: Path, what: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, env=_own(), capture_output=True, text=True, errors="replace")
    if done.returncode:
        reason = one_line(done.stderr, 300)
        raise FlowermlError(f"{what} is not to be had: {reason}")
    return done.stdout


def _own() -> dict[str, str]:
    """The environment without what git and MLflow would take for the place and the run to work in."""
    strange = ("GIT_", "MLFLOW_RUN", "MLFLOW_EXPERIMENT", "MLFLOW_TRACKING", "MLFLOW_REGISTRY", "DVC_", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(strange)}


def _environment(scratch: Path) -> dict[str, str]:
    programs = str(Path(sys.executable).parent)
    return {
        **_own(),
        "PATH": programs + os.pathsep + os.environ.get("PATH", ""),
        "MLFLOW_TRACKING_URI": f"sqlite:///{scratch.as_posix()}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "true",
    }


def _of(recorded: Recorded) -> str:
    return f"{recorded.name} version {recorded.version}"


def _shown(value: float | None) -> str:
    return "missing" if value is None else f"{value:.6f}"
