"""Where a result comes from: the commit, the machine's threads, the versions."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

# After any `dvc repro` these are modified; they say nothing of whether the code or the parameters were.
RESULTS = (":!dvc.lock", ":!reports")


def git() -> dict[str, str]:
    """{"git_commit": …, "git_dirty": "true" | "false"}; empty outside a repository or without git."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git("status", "--porcelain", "--", ".", *RESULTS)
    return {"git_commit": commit, "git_dirty": str(bool(changes)).lower()}


def environment() -> dict[str, str]:
    """What a number may depend on beside code, data and parameters."""
    packages = ("torch", "torchvision", "timm", "onnxruntime", "numpy", "pillow", "mlflow", "dvc", "flowerml")
    versions = {f"version.{name}": found for name in packages if (found := _version(name))}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **versions,
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
