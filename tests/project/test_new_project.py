"""A new project as its owner uses it: `flowerml init`, `dvc repro`, a commit, another version."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowerml.tasks.registry import TASKS

pytestmark = pytest.mark.extended

SMALL = {
    "image": ("data.sample_per_class=10", "train.epochs=2", "train.search.trials=2", "evaluate.gallery=1"),
    "text": ("data.sample_per_class=40", "train.search.trials=2", "evaluate.gallery=1"),
}
STAGES = ("download", "extract", "encode", "train", "evaluate", "export")
ME = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Owner:
    """Someone who runs commands in a project, with an environment that may have another flowerml on paper."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MLFLOW_"))},
            **ME,
            "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"],
        }

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command; return all that it prints."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def pretend_version(self, version: str, folder: Path) -> None:
        """Have Python report another version of flowerml: metadata that come first on its path."""
        metadata = folder / f"flowerml-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: flowerml\nVersion: {version}\n")
        self.environment["PYTHONPATH"] = str(folder)


@pytest.fixture(scope="module", params=list(TASKS))
def owner(request, tmp_path_factory):
    """Return the owner of a project of each kind, after its first `dvc repro` and a commit."""
    folder = tmp_path_factory.mktemp("a new") / "project"
    small = [part for change in SMALL[request.param] for part in ("-S", change)]
    Owner(folder.parent).run("flowerml", "init", "project", f"--{request.param}", *small)
    owner = Owner(folder)
    assert "registered project version 1 as champion" in owner.run("dvc", "repro")
    owner.run("git", "add", "-A")
    owner.run("git", "commit", "-q", "-m", "first")
    return owner


def test_nothing_is_left_to_do(owner):
    assert "up to date" in owner.run("dvc", "status")
    assert owner.run("git", "status", "--porcelain") == ""


def test_a_parameter_makes_its_stages_stale_alone(owner):
    # In a copy, so that the workspace stays; `download` runs there, as DVC does not cache what may be the user's files.
    output = owner.run("dvc", "exp", "run", "--temp", "-S", "+project.evaluate.resamples=100")
    ran = [stage for stage in STAGES if f"Running stage '{stage}@project'" in output]
    assert ran == ["download", "evaluate", "export"]


def test_another_version_is_refused_until_the_project_is_moved(owner, tmp_path):
    before = (owner.folder / "reports/project/params.yaml").read_bytes()
    owner.pretend_version("9.9.9", tmp_path)
    refused = owner.run("dvc", "repro", "--force", "params@project", code=255)
    assert "which this project is pinned to, found 9.9.9; run `pip install 'flowerml[train]==" in refused
    assert (owner.folder / "reports/project/params.yaml").read_bytes() == before
    owner.run("flowerml", "init", "--upgrade")
    output = owner.run("dvc", "repro")
    ran = [
        stage for stage in ("extract", "encode", "train", "evaluate") if f"Running stage '{stage}@project'" in output
    ]
    assert ran == ["extract", "encode", "train", "evaluate"]
    assert "Running stage 'download@" not in output and "Running stage 'export@" not in output


def test_dvc_init_writes_the_same(owner, tmp_path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=tmp_path, check=True)
    ignored = (".dvc", ".gitignore")
    assert (owner.folder.joinpath(*ignored)).read_text() == tmp_path.joinpath(*ignored).read_text()
