"""What was recorded of a registered version, read back."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flowerml.config.params import Loader
from flowerml.core import files
from flowerml.core.errors import ModelError
from flowerml.registry.client import mlflow_errors
from flowerml.tracking import lineage, relocation

if TYPE_CHECKING:
    from mlflow.entities import Run

REGISTER = "register"  # the name of the run of `flowerml register`
SHOWN_FILES = 3


@dataclass(frozen=True)
class Recorded:
    """What was logged with a version (see `lineage.log_lineage`); `params` is the params.yaml of its pipeline."""

    name: str
    version: str
    facts: Mapping[str, Any]
    params: dict[str, Any]
    patch: bytes

    @property
    def title(self) -> str:
        return f"{self.name} version {self.version}"

    @property
    def pipeline(self) -> str:
        return str(self.facts["pipeline"])

    @classmethod
    def read(cls, folder: Path, *, name: str, version: str) -> "Recorded":
        """Return the contents of a lineage folder; raises ModelError where it is incomplete."""
        try:
            facts = files.read_json(folder / lineage.FACTS)
            params = yaml.load((folder / lineage.PARAMETERS).read_text(encoding="utf-8"), Loader)
            patch = folder / lineage.PATCH
            return cls(name, version, facts, params, patch.read_bytes() if patch.is_file() else b"")
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ModelError(f"{name} version {version}: its recorded lineage cannot be read ({error})") from None


def load_recorded(name: str, version: str) -> Recorded:
    """Return what was logged with a version, which is given by its number or an alias. Raises ModelError.

    Versions registered by hand, or before lineage was recorded, have nothing.
    """
    with mlflow_errors(f"{name} version {version}: "):
        from mlflow import MlflowClient

        client = MlflowClient()
        get = client.get_model_version if version.isdecimal() else client.get_model_version_by_alias
        record = get(name, version)
        title = f"{name} version {record.version}"
        if not record.run_id:
            raise ModelError(f"{title}: has no recorded lineage, so it cannot be reproduced")
        with tempfile.TemporaryDirectory(prefix="flowerml-") as scratch:
            if not client.list_artifacts(record.run_id, lineage.FOLDER):
                raise ModelError(f"{title}: {_why_missing(client.get_run(record.run_id))}")
            folder = Path(client.download_artifacts(record.run_id, lineage.FOLDER, scratch))
            return Recorded.read(folder, name=name, version=str(record.version))


def _why_missing(run: "Run") -> str:
    """Return why a version has no lineage among its run's artifacts."""
    folder = relocation.local_path(run.info.artifact_uri)
    if folder is not None and not folder.exists():
        return (
            f"the files of its run are gone, so it cannot be reproduced: {folder} does not exist; restore it, such as "
            "from where the project was before"
        )
    if run.info.run_name == REGISTER:
        return "was registered from a folder, so the training that made it is not recorded and cannot be reproduced"
    return "has no recorded lineage, so it cannot be reproduced"


def origin(recorded: Recorded) -> str:
    """Return which code produced a version, in a few words."""
    commit = recorded.facts.get("git_commit")
    return f"from commit {commit[:12]}" if commit else "from outside a git repository"


def lost_changes(recorded: Recorded) -> str | None:
    """Return why the code of a version cannot be restored exactly; None where it can."""
    reason = recorded.facts.get("not_kept")
    return f"made with uncommitted changes that were not kept: {reason}" if reason else None


def remarks(recorded: Recorded) -> Iterator[str]:
    """Yield what may make a reproduction differ, a line each."""
    if recorded.patch:
        yield "made with uncommitted changes; they were kept and are applied to the copy"
    if untracked := recorded.facts.get("untracked"):
        more = f" and {len(untracked) - SHOWN_FILES} more" if len(untracked) > SHOWN_FILES else ""
        yield f"untracked files existed ({', '.join(untracked[:SHOWN_FILES])}{more}); the copy lacks them"
    current = lineage.environment()
    for name, value in recorded.facts["environment"].items():
        if current.get(name) != value:
            yield f"made with {name.removeprefix('version.')} {value}, found {current.get(name, 'none')} here"
