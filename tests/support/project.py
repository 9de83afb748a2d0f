"""A copy of this project in its own folder, small enough to be run by tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import yaml

from flowerml.config import params
from flowerml.config.dotted import set_by_dotted_name

REPOSITORY = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "flowers.data.sample_per_class": 14,
    "flowers.train.epochs": 4,
    "flowers.train.search.trials": 3,
    "reviews.data.sample_per_class": 60,
    "reviews.train.epochs": 2,
    "reviews.train.hidden_dim": 8,
    "reviews.train.search.trials": 2,
}


class Project:
    """A clone with its own parameters, database and DVC cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("dvc.yaml", "params.yaml", "MLproject", "python_env.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(REPOSITORY / name, folder / name)
        for name in ("stages", "flowerml"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.run("git", "init", "-q")
        self.run("dvc", "init", "-q")
        shutil.copytree(REPOSITORY / ".dvc/plots", folder / ".dvc/plots")
        self.set(SMALL)
        self.run("git", "add", "-A")
        self.run(
            "git",
            "-c",
            "user.name=test",
            "-c",
            "user.email=test@example.com",
            "-c",
            "commit.gpgsign=false",
            "commit",
            "-q",
            "-m",
            "start",
        )

    def set(self, values: dict[str, Any]) -> None:
        """Change params.yaml by dotted names."""
        set_params(self.folder / "params.yaml", values)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder, with this interpreter's programs first on PATH."""
        process = subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=600
        )
        assert not check or process.returncode == 0, f"{command}\n{process.stdout}\n{process.stderr}"
        return process

    def environment(self) -> dict[str, str]:
        """Return the environment of its commands."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"],
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
        }

    def copy(self, folder: Path) -> Self:
        """Return a copy in another folder, with all outputs so far."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return self.at(folder)

    @classmethod
    def at(cls, folder: Path) -> Self:
        """Return the copy that lies in a folder."""
        project = cls.__new__(cls)
        project.folder = folder
        return project


def set_params(path: Path, values: dict[str, Any]) -> None:
    """Change values of a params.yaml by their dotted names."""
    content = params.read(path)
    set_by_dotted_name(content, values)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
