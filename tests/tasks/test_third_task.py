"""A third kind of data needs a folder and one line in the table of tasks, and no change anywhere else."""

import shutil
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
import yaml

from flowerml import Classifier
from flowerml.cli import plot
from flowerml.cli.inputs import Stdin, answers, expanded
from flowerml.config import params
from flowerml.core import files
from flowerml.core.errors import ModelError
from flowerml.pipeline import adhoc, export, run
from flowerml.registry import card
from flowerml.registry.client import versions
from flowerml.search.progress import Bar
from flowerml.tasks import registry
from flowerml.web import page
from flowerml.web.sources import LoadedSource
from flowerml.web.uploads import Uploads
from tests.support.project import REPOSITORY
from tests.tasks import toy

BASES = {"rich_in_a": "AAAAAACGT", "rich_in_g": "GGGGGGACT"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The result of training the toy task on forty strands, in a project whose params.yaml has a pipeline of it."""
    folder = tmp_path_factory.mktemp("toy")
    rng = Random(0)
    for label, bases in BASES.items():
        (folder / "strands" / label).mkdir(parents=True)
        for number in range(20):
            strand = "".join(rng.choices(bases, k=40))
            (folder / "strands" / label / f"{number}.dna").write_text(strand)
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    sections = values["flowers"]
    for name in ("smallest_side", "largest_side", "longest_shape"):
        del sections["data"]["checks"][name]
    del sections["data"]["limits"]["pixels"]
    sections["encode"] = {"relative": True}
    sections["train"] = {name: sections["train"][name] for name in params.Train.model_fields}
    sections["train"]["learning_rate"] = 0.5  # of four inputs
    sections["train"]["search"] = {"trials": 1, "prune": False, "space": {}}
    (folder / "params.yaml").write_text(yaml.safe_dump({"pipelines": {"strands": "toy"}, "strands": sections}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.TASKS, "toy", toy)
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        pipeline, _ = adhoc.pipeline_from_data("strands", None, {}, name="dna", root=folder / "work")
        yield run.run(pipeline, folder / "classifier", show_progress=Bar, on_summary=print), pipeline


@pytest.fixture
def classifier(trained) -> Classifier:
    return trained[0].classifier


def test_its_kind_is_inferred(trained):
    assert trained[1].kind == "toy"


def test_it_learns(trained):
    assert trained[0].metrics["accuracy"] > 0.9


def test_it_predicts(classifier):
    (prediction,) = classifier.predict(["AAAAAAAAAC"])
    assert prediction.top[0].label == "rich_in_a"


def test_the_command_line_reads_its_files(classifier, trained):
    path = trained[1].paths.archive.resolve() / "rich_in_g" / "0.dna"
    inputs = expanded([str(path), "AAAACAAA", "nothing"], classifier.task, Stdin())
    given = answers(classifier, inputs, top_k=1)
    labels = [getattr(answer, "code", None) or answer.top[0].label for _, answer in given]
    assert labels == ["rich_in_g", "rich_in_a", "not_dna"]


def test_it_explains(classifier):
    weights = dict(toy.explain("GA", classifier.preprocessing, _log_odds(classifier), label="rich_in_g").words)
    assert weights["G"] > 0 > weights["A"]
    assert classifier.explain("GA").to_json()["kind"] == "toy"


def test_it_is_plotted(classifier, tmp_path):
    (prediction,) = classifier.predict(["AAAAAAAAAC"])
    plot.draw(tmp_path / "strand.png", classifier, "AAAAAAAAAC", prediction)
    assert (tmp_path / "strand.png").read_bytes().startswith(b"\x89PNG")


def test_its_report_is_written(trained):
    report = trained[1].paths.reports / "report.html"
    assert "rich_in_a" in report.read_text(encoding="utf-8")
    assert files.read_json(trained[1].paths.reports / "metrics.json") == pytest.approx(trained[0].metrics)


def test_its_card_tells_what_it_is(classifier):
    assert card.describe_network(classifier.description) == "a linear head on shares of ACGT"


def test_it_has_a_page(classifier):
    source = LoadedSource(classifier.folder)
    view = page.AnswerView(top_k=2, unsure=None)
    with closing(page.build([source], view, Uploads(), port=0)) as blocks:
        assert any("Strand" in str(block.get_config()) for block in blocks.blocks.values())
    first, *_, last = view.html(source, "AAAAAAAAAC")
    assert "rich_in_a" in first and "speaks for" in last


def _log_odds(classifier: Classifier):
    def log_odds(prepared):
        rows = classifier.calibration.probabilities(classifier._outputs(list(prepared))[0])
        return rows[:, 1] - rows[:, 0]

    return log_odds


def test_nothing_outside_tasks_names_a_kind():
    quoted = ('"image"', '"text"', "'image'", "'text'")
    named = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in sorted(Path(REPOSITORY, "flowerml").rglob("*.py"))
        if "tasks" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if "kind" in line and ("==" in line or " in (" in line or "!=" in line) and any(kind in line for kind in quoted)
    ]
    assert named == []


def test_damaged_weights_are_not_registered(trained, classifier):
    """The run and the version would otherwise hold what nobody can train further."""
    _, pipeline = trained
    folder = Path(shutil.copytree(classifier.folder, pipeline.paths.classifier))
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(
        ModelError, match=r"weights\.safetensors is not the file that was saved .*; copy the whole folder"
    ):
        export.run(pipeline)
    assert not versions(None)
