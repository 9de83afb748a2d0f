"""Lineage: the commit, stages, data, parameters, threads and package versions that a result comes from.

MLflow's own tags of a run (`mlflow.source.git.commit`, `.branch`, `.repoURL`) do not suffice: they do not say whether
the code was modified, nor what DVC locked.
"""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from flowerml.core import files
from flowerml.core.urls import PASSWORD, without_secrets
from flowerml.data import download

if TYPE_CHECKING:
    from flowerml.config.paths import Paths
    from flowerml.data.examples import Examples, Raw
    from flowerml.tracking.runs import Run

# Modified after any `dvc repro`, whether or not code and parameters are.
RESULTS = (":!dvc.lock", ":!reports")
LOCK = Path("dvc.lock")
STAGES = ("download", "extract", "encode", "train", "evaluate", "export")
# Override a user's settings for reading diffs, so that git can apply the patch.
DIFF_OPTIONS = ("--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
# The artifacts of a version that `flowerml reproduce` reads.
FOLDER, FACTS, PARAMETERS, PATCH = "lineage", "lineage.json", "params.yaml", "changes.diff"
MAX_PATCH = 2**20  # bytes


@dataclass(frozen=True)
class Origin:
    """The facts about a pipeline that lineage records.

    `column` and `raw` are the name and type of its raw inputs; `sections` are its parameters as plain data, without
    secrets.
    """

    pipeline: str
    kind: str
    paths: "Paths"
    source: str
    column: str
    raw: "type[Raw]"
    sections: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Changes:
    """Uncommitted changes to tracked files, as a patch for git or the reason why it is not kept.

    Without params.yaml, as the parameters are recorded separately. Of untracked files only the names are kept.
    """

    patch: bytes
    not_kept: str | None
    untracked: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """A split as an MLflow data set: the arguments of `tracking.runs.Run.dataset`."""

    name: str
    context: str
    digest: str
    source_type: str
    source: dict[str, str]
    schema: dict[str, Any]
    profile: dict[str, int]


def git_state() -> dict[str, str]:
    """Return {"git_commit": …, "git_dirty": "true" | "false"}; empty outside a repository or without git."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git("status", "--porcelain", "--", ".", *RESULTS)
    return {"git_commit": commit, "git_dirty": str(bool(changes)).lower()}


def uncommitted_changes() -> Changes:
    """Return what changed since the commit; empty outside a repository."""
    patch = _git_bytes("diff", "HEAD", *DIFF_OPTIONS, "--", ".", *RESULTS, ":!params.yaml") or b""
    untracked = _git("ls-files", "--others", "--exclude-standard", "--", ".", *RESULTS) or ""
    reason = None
    if len(patch) > MAX_PATCH:
        reason = f"the changes are {len(patch):,} bytes, and at most {MAX_PATCH:,} are kept"
    elif any(line.startswith("+") and PASSWORD.search(line) for line in patch.decode(errors="replace").splitlines()):
        reason = "the changes hold an address with a password"
    return Changes(b"" if reason else patch, reason, tuple(untracked.splitlines()))


def environment() -> dict[str, str]:
    """Return what a metric may depend on besides code, data and parameters: Python, machine and package versions."""
    packages = ("torch", "torchvision", "timm", "onnxruntime", "numpy", "pillow", "mlflow", "dvc", "flowerml")
    versions = {f"version.{name}": installed for name in packages if (installed := _version(name))}
    return {"python": platform.python_version(), "machine": platform.machine(), **versions}


def locked_stages(pipeline: str, *, before: str, lock: Path = LOCK) -> dict[str, dict[str, dict[str, str]]]:
    """Return {stage: {"deps": {path: MD5}, "outs": {path: MD5}}} for the stages `before` one, from dvc.lock.

    `dvc repro` locks each stage when it ends. Empty where DVC has run nothing or the file is damaged.
    """
    try:
        content = yaml.safe_load(lock.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    locked = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(locked, dict):
        return {}
    names = STAGES[: STAGES.index(before)]
    entries = {name: locked.get(f"{name}@{pipeline}") for name in names}
    return {
        name: {kind: {file["path"]: file.get("md5", "") for file in entry.get(kind, ())} for kind in ("deps", "outs")}
        for name, entry in entries.items()
        if entry
    }


def lineage_tags(origin: Origin, data_digest: str, *, stage: str, threads: int) -> dict[str, str]:
    """Return the tags for a run of this stage, and for a version that it registers.

    They are pipeline, data_digest, threads (of torch), git_commit, git_dirty, python, machine and versions, and for
    each stage before this one `dvc.<stage>`: what DVC locked, as JSON.
    """
    locked = locked_stages(origin.pipeline, before=stage, lock=origin.paths.root / LOCK)
    return {
        "pipeline": origin.pipeline,
        "data_digest": data_digest,
        "threads": str(threads),
        **git_state(),
        **environment(),
        **{f"dvc.{name}": json.dumps(entry) for name, entry in locked.items()},
    }


def datasets(origin: Origin, examples: "Examples") -> Iterator[Dataset]:
    """Yield each split that has examples."""
    raw = {"type": "binary" if origin.raw is bytes else "string", "name": origin.column, "required": True}
    kind, source = _source(origin.source)
    columns = [raw, {"type": "string", "name": "label", "required": True}]
    for split in ("train", "valid", "test"):
        labels = Counter(key.label for key in examples.keys(split))
        if labels:
            counts = {"num_rows": labels.total(), "num_classes": len(labels), "smallest_class": min(labels.values())}
            yield Dataset(
                name=f"{origin.pipeline} {split}",
                context=split,
                digest=examples.digest(split),
                source_type=kind,
                source=source,
                schema={"mlflow_colspec": columns},
                profile=counts,
            )


def recorded_tags(trained: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags for a version of a classifier of which nothing is known but what it records of its training."""
    names = ("pipeline", "data_digest", "threads", "python", "machine")
    return {name: str(value) for name, value in trained.items() if name in names or name.startswith("version.")}


def log_datasets(run: "Run", origin: Origin, examples: "Examples") -> None:
    """Log each split as a data set of the run."""
    for dataset in datasets(origin, examples):
        run.dataset(**vars(dataset))


def log_lineage(run: "Run", origin: Origin, examples: "Examples", *, classifier: Path, reports: Path) -> None:
    """Log, in FOLDER, what `flowerml reproduce` needs of a saved classifier with these reports."""
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
        folder = Path(scratch)
        changed = uncommitted_changes()
        facts = lineage_facts(origin, examples, changed, classifier=classifier, reports=reports)
        files.write_json(folder / FACTS, facts)
        (folder / PARAMETERS).write_text(params_yaml(origin), encoding="utf-8")
        if changed.patch:
            (folder / PATCH).write_bytes(changed.patch)
        run.artifact(folder, FOLDER)


def lineage_facts(
    origin: Origin, examples: "Examples", changed: Changes, *, classifier: Path, reports: Path
) -> dict[str, Any]:
    """Return what a reproduction is compared with: digests of data, stages and weights, metrics and their intervals."""
    intervals = reports / "intervals.json"
    return {
        "pipeline": origin.pipeline,
        **git_state(),
        "not_kept": changed.not_kept,
        "untracked": changed.untracked,
        "environment": environment(),
        "stages": locked_stages(origin.pipeline, before="export", lock=origin.paths.root / LOCK),
        "data_digest": examples.digest(),
        "weights_digest": weights_digest(classifier),
        "threads": files.read_json(classifier / "classifier.json")["trained"]["threads"],
        "metrics": files.read_json(reports / "metrics.json"),
        "intervals": files.read_json(intervals)["intervals"] if intervals.is_file() else {},
    }


def weights_digest(classifier: Path) -> str:
    """Return the SHA-256, in hex, of a saved classifier's weights."""
    with (classifier / "weights.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def params_yaml(origin: Origin) -> str:
    """Return a params.yaml of this pipeline alone, with its search space; without the passwords of its source."""
    content = {"pipelines": {origin.pipeline: origin.kind}, origin.pipeline: dict(origin.sections)}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def logged_parameters(trained: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters by their dotted names: those a classifier was `trained` with, and later stages' from `now`.

    The source is without its passwords.
    """
    later = {name: value for name, value in now.items() if name.startswith(("evaluate.", "export."))}
    return {**trained, **later, "data.source": now["data.source"]}


def _source(source: str) -> tuple[str, dict[str, str]]:
    """Return the type of a source and its address, as MLflow stores them."""
    scheme = urlsplit(source).scheme.lower() if download.is_url(source) else "local"
    address = without_secrets(source)
    return ("http", {"url": address}) if scheme in ("http", "https") else (scheme, {"uri": address})


def _git(*arguments: str) -> str | None:
    output = _git_bytes(*arguments)
    return None if output is None else output.decode(errors="replace").strip()


def _git_bytes(*arguments: str) -> bytes | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-c", "core.quotePath=false", *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=30, env=environment).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
