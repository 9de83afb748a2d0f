"""A project of two people: data, DVC remote and models on S3, runs and versions on a server with PostgreSQL."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flowerml.core.errors import DownloadError
from flowerml.data.download import download
from tests.support.project import Project
from tests.support.team_server import PASSWORD, Team

pytestmark = pytest.mark.engines

WORDS = {"neg": "poor dull weak sad", "pos": "great warm fine glad"}


class Member(Project):
    """A person's copy of the project, who has the variables of the team's servers set."""

    variables: dict[str, str]

    def environment(self) -> dict[str, str]:
        """Return the environment of its commands."""
        return {**super().environment(), **self.variables, "TQDM_DISABLE": "1"}

    def start(self, stage: str) -> "subprocess.Popen[str]":
        """Start a stage of the pipeline."""
        return subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}", "reviews"],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def at_once(members: list[Member], stage: str) -> list[str]:
    """Run a stage in all copies at once; return the outputs."""
    processes = [member.start(stage) for member in members]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(members), outputs
    return outputs


@pytest.fixture(scope="module")
def people(servers: Team, tmp_path_factory) -> list[Member]:
    """Return two people: the first has trained on a folder of the bucket and pushed, the second has pulled."""
    for label, words in WORDS.items():
        for number in range(40):
            first, *rest = words.split()
            text = f"{first} film number {number}, {rest[number % 3]} and {rest[number // 3 % 3]} throughout"
            servers.bucket.put(f"reviews/{label}/{number}.txt", text.encode())
    folder = tmp_path_factory.mktemp("people")
    (folder / "a").mkdir()
    Member.variables = servers.variables
    first = Member(folder / "a")
    first.set({"reviews.data.source": "s3://team/reviews/", "reviews.train.search.trials": 2})
    first.run("dvc", "remote", "add", "--default", "team", "s3://team/dvc")
    first.run("dvc", "repro", "evaluate@reviews")
    first.run("dvc", "push", "evaluate@reviews", "train@reviews", "encode@reviews", "extract@reviews")
    second = first.copy(folder / "b")
    for name in ("data", "models", ".dvc/cache"):  # the metrics in reports are in git
        second.run("rm", "-rf", name)
    second.run(sys.executable, "-m", "stages.download", "reviews")
    second.run("dvc", "pull", "--force", "evaluate@reviews", "train@reviews", "encode@reviews", "extract@reviews")
    return [first, second]


def test_remote_on_s3_gives_the_second_the_same_files(people, servers):
    for name in ("models/reviews/classifier/weights.safetensors", "data/reviews/examples.parquet"):
        contents = [(member.folder / name).read_bytes() for member in people]
        assert contents[0] == contents[1]
    assert servers.bucket.keys("dvc/") and PASSWORD not in (people[0].folder / ".dvc/config").read_text()


def test_two_train_and_export_at_once(people, servers, tmp_path):
    client = MlflowClient(servers.server.uri)
    at_once(people, "train")
    experiment = client.get_experiment_by_name("reviews")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    searches = [run for run in runs if run.info.run_name == "search"]
    assert len(searches) == 3 and {run.info.status for run in runs} == {"FINISHED"}
    trials = [run for run in runs if run.info.run_name.startswith("trial")]
    assert len({(run.data.tags["mlflow.parentRunId"], run.info.run_name) for run in trials}) == 6

    outputs = at_once(people, "export")
    versions = client.search_model_versions("name = 'reviews'")
    assert sorted(int(version.version) for version in versions) == [1, 2]
    champion = client.get_model_version_by_alias("reviews", "champion")
    assert champion.tags["verdict"] == "promoted" and champion.source.startswith(("s3://team/", "models:/"))
    assert all("verdict" in version.tags for version in versions)
    shown = "".join(outputs) + "".join(str(run.data.tags) + str(run.data.params) for run in runs)
    assert PASSWORD not in shown and "s3-s3cret" not in shown

    # A third place has the variables and nothing else.
    third = subprocess.run(
        [sys.executable, "-m", "flowerml", "predict", "--model", "models:/reviews@champion", "a great and warm film"],
        cwd=tmp_path,
        env={**people[0].environment(), "PYTHONPATH": str(people[0].folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert third.returncode == 0 and "pos" in third.stdout, third.stderr


def test_archive_on_s3_is_a_source(member, tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        info = tarfile.TarInfo("pos/1.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"fine"))
    address = member.bucket.put("archives/reviews.tar.gz", content.getvalue())
    download(address, tmp_path / "reviews.tar.gz")
    assert Path("reviews.tar.gz").read_bytes() == content.getvalue()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://missing/reviews/", "The specified bucket does not exist"),
        ("s3://team/nothing/", "found none under this address"),
        ("s3://team/nothing.zip", "FileNotFoundError"),
    ],
)
def test_missing_bucket_or_object_is_one_line(member, tmp_path, address, words):
    with pytest.raises(DownloadError, match=words) as refused:
        download(address, tmp_path / "target", pause=0)
    assert "\n" not in str(refused.value) and "s3-s3cret" not in str(refused.value)
