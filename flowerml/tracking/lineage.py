"""Where a result comes from: the commit, the stages before it, the data, the parameters, the threads, the versions."""

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

# After any `dvc repro` these are modified; they say nothing of whether the code or the parameters were.
RESULTS = (":!dvc.lock", ":!reports")
LOCK = Path("dvc.lock")
STAGES = ("download", "extract", "encode", "train", "evaluate", "export")
# Whatever a person has set for reading diffs.
PLAIN = ("--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
# What is logged with a version, for `flowerml reproduce`.
FOLDER, FACTS, PARAMETERS, PATCH = "lineage", "lineage.json", "params.yaml", "changes.diff"
LARGEST_DIFF = 2**20  # bytes that are kept


@dataclass(frozen=True)
class Origin:
    """What lineage records of a pipeline: its name, kind, files, source, sections and the type of its raw inputs.

    `column` is the name of the raw inputs' column; `sections` are plain data, without secrets.
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
    """What the project's tracked files have that their commit has not: a patch for git, or why it is not kept.

    params.yaml is not in it: the parameters are recorded by themselves. Of files that git does not know, only the
    names are.
    """

    patch: bytes
    not_kept: str | None
    untracked: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """One split as MLflow knows data: the arguments of `tracking.Run.dataset`."""

    name: str
    context: str
    digest: str
    source_type: str
    source: dict[str, str]
    schema: dict[str, Any]
    profile: dict[str, int]


def git() -> dict[str, str]:
    """{"git_commit": …, "git_dirty": "true" | "false"}; empty outside a repository or without git."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git("status", "--porcelain", "--", ".", *RESULTS)
    return {"git_commit": commit, "git_dirty": str(bool(changes)).lower()}


def changes() -> Changes:
    """What is changed since the commit; nothing outside a repository."""
    patch = _git_bytes("diff", "HEAD", *PLAIN, "--", ".", *RESULTS, ":!params.yaml") or b""
    listed = _git("ls-files", "--others", "--exclude-standard", "--", ".", *RESULTS) or ""
    reason = None
    if len(patch) > LARGEST_DIFF:
        reason = f"the changes are {len(patch):,} bytes, and at most {LARGEST_DIFF:,} are kept"
    elif any(line.startswith("+") and PASSWORD.search(line) for line in patch.decode(errors="replace").splitlines()):
        reason = "the changes hold an address with a password"
    return Changes(b"" if reason else patch, reason, tuple(listed.splitlines()))


def environment() -> dict[str, str]:
    """What a number may depend on beside code, data and parameters."""
    packages = ("torch", "torchvision", "timm", "onnxruntime", "numpy", "pillow", "mlflow", "dvc", "flowerml")
    versions = {f"version.{name}": found for name in packages if (found := _version(name))}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **versions,
    }


def stages(pipeline: str, *, before: str, lock: Path = LOCK) -> dict[str, dict[str, dict[str, str]]]:
    """{stage: {"deps": {path: MD5}, "outs": {path: MD5}}} of a pipeline's stages before one, as DVC locked them.

    While `dvc repro` runs, it locks each stage as it ends. Empty where DVC has run nothing.
    """
    try:
        whole = yaml.safe_load(lock.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    found = whole.get("stages") if isinstance(whole, dict) else None
    locked = found if isinstance(found, dict) else {}
    names = STAGES[: STAGES.index(before)]
    entries = {name: locked.get(f"{name}@{pipeline}") for name in names}
    return {
        name: {kind: {one["path"]: one.get("md5", "") for one in entry.get(kind, ())} for kind in ("deps", "outs")}
        for name, entry in entries.items()
        if entry
    }


def tags(origin: Origin, data_digest: str, *, stage: str, threads: int) -> dict[str, str]:
    """What a run of this stage, and a version it registers, tell of where they come from; all short texts.

    pipeline, data_digest, threads (of torch), git_commit and git_dirty, python, machine and versions, and for each
    stage before this one `dvc.<stage>`: what DVC locked, as JSON.
    """
    locked = stages(origin.pipeline, before=stage, lock=origin.paths.root / LOCK)
    return {
        "pipeline": origin.pipeline,
        "data_digest": data_digest,
        "threads": str(threads),
        **git(),
        **environment(),
        **{f"dvc.{name}": json.dumps(entry) for name, entry in locked.items()},
    }


def datasets(origin: Origin, examples: "Examples") -> Iterator[Dataset]:
    """Each split that has examples."""
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


def record(run: "Run", origin: Origin, examples: "Examples") -> None:
    """Log the data sets of a finished pipeline, and in the folder FOLDER all that `flowerml reproduce` needs."""
    for dataset in datasets(origin, examples):
        run.dataset(**vars(dataset))
    with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
        folder = Path(scratch)
        changed = changes()
        files.write_json(folder / FACTS, facts(origin, examples, changed))
        (folder / PARAMETERS).write_text(parameters(origin), encoding="utf-8")
        if changed.patch:
            (folder / PATCH).write_bytes(changed.patch)
        run.artifact(folder, FOLDER)


def facts(origin: Origin, examples: "Examples", changed: Changes) -> dict[str, Any]:
    """What a reproduction is compared with: digests of data, stages and weights, metrics and their intervals."""
    paths = origin.paths
    limits = paths.reports / "intervals.json"
    return {
        "pipeline": origin.pipeline,
        **git(),
        "not_kept": changed.not_kept,
        "untracked": changed.untracked,
        "environment": environment(),
        "stages": stages(origin.pipeline, before="export", lock=paths.root / LOCK),
        "data_digest": examples.digest(),
        "weights_digest": weights_digest(paths.classifier),
        "threads": files.read_json(paths.classifier / "classifier.json")["trained"]["threads"],
        "metrics": files.read_json(paths.reports / "metrics.json"),
        "intervals": files.read_json(limits)["intervals"] if limits.is_file() else {},
    }


def weights_digest(classifier: Path) -> str:
    """The SHA-256, in hex, of a saved classifier's weights."""
    with (classifier / "weights.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parameters(origin: Origin) -> str:
    """Return a params.yaml of this pipeline alone, with its search space; without the passwords of its source."""
    whole = {"pipelines": {origin.pipeline: origin.kind}, origin.pipeline: dict(origin.sections)}
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)


def logged_parameters(trained: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters by dotted names: those a classifier was `trained` with, and those of later stages `now`.

    Without the passwords of the source.
    """
    later = {name: value for name, value in now.items() if name.startswith(("evaluate.", "export."))}
    return {**trained, **later, "data.source": now["data.source"]}


def _source(source: str) -> tuple[str, dict[str, str]]:
    """The type of a source and what it says, in MLflow's words."""
    scheme = urlsplit(source).scheme.lower() if download.is_url(source) else "local"
    shown = without_secrets(source)
    return ("http", {"url": shown}) if scheme in ("http", "https") else (scheme, {"uri": shown})


def _git(*arguments: str) -> str | None:
    found = _git_bytes(*arguments)
    return None if found is None else found.decode(errors="replace").strip()


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
