"""What a pipeline saves of an ensemble, of repeats and of a refit, and what it reports of them."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import yaml

from flowerml import Classifier
from flowerml.classifier.examples import read_examples
from flowerml.classifier.repeats import others
from flowerml.classifier.saved import EXAMPLES
from flowerml.classifier.warm_start import WarmStart
from flowerml.config import params
from flowerml.core import files
from flowerml.core.errors import FlowermlError, ModelError
from flowerml.data.examples import Examples
from flowerml.monitoring.reference import read_reference
from flowerml.pipeline import adhoc, encode, evaluate, extract, run, train
from flowerml.registry import card
from flowerml.search.progress import Bar
from flowerml.tasks import registry
from tests.support.project import REPOSITORY
from tests.tasks import toy

BASES = {"rich_in_a": "AAACGT", "rich_in_g": "GGGACT"}
VALUES = {"ensemble": 3, "repeats": 2, "refit": True}
SPACE = {"learning_rate": [0.02, 0.1], "seed": [0, 1]}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Iterator:
    """Yield a pipeline of the toy task, encoded, in a folder of its own."""
    folder = tmp_path_factory.mktemp("toy")
    rng = Random(0)
    for label, bases in BASES.items():
        (folder / "strands" / label).mkdir(parents=True)
        for number in range(60):
            (folder / "strands" / label / f"{number}.dna").write_text("".join(rng.choices(bases, k=8)))
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    sections = values["flowers"]
    for name in ("smallest_side", "largest_side", "longest_shape"):
        del sections["data"]["checks"][name]
    del sections["data"]["limits"]["pixels"]
    sections["encode"] = {"relative": True}
    sections["train"] = {name: sections["train"][name] for name in params.Train.model_fields}
    sections["train"] |= {"epochs": 4, "learning_rate": 0.02, "search": {"trials": 4, "prune": False, "space": {}}}
    (folder / "params.yaml").write_text(yaml.safe_dump({"pipelines": {"strands": "toy"}, "strands": sections}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.TASKS, "toy", toy)
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        made, _ = adhoc.pipeline_from_data("strands", None, {}, name="dna", root=folder / "work")
        extract.run(made)
        encode.run(made)
        yield made


def changed(pipeline, **values):
    section = pipeline.train.with_values(values)
    search = {"trials": 4, "prune": False, "space": SPACE if section.ensemble > 1 else {}}
    return replace(pipeline, train=section.with_values({"search": search}))


@pytest.fixture(scope="module")
def trained(pipeline):
    """The classifier, the scores and the folders of reports and repeats of a training with everything."""
    wanted = changed(pipeline, **VALUES)
    classifier = train.run(wanted).classifier
    scores = evaluate.run(wanted)
    kept = {name: shutil.copytree(getattr(wanted.paths, name), f"kept/{name}") for name in ("reports", "repeats")}
    return classifier, scores, Path(kept["reports"]), Path(kept["repeats"])


def test_repeats_are_classifiers_with_other_seeds(trained):
    classifier, _, _, folder = trained
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "repeats.json"]
    first, second = (Classifier.load(folder / number) for number in "12")
    assert first.description == classifier.description
    strands = ["ACGTACGT", "GGGATTCA"]
    assert not np.allclose(first.probabilities(strands), second.probabilities(strands), atol=1e-4)
    seeds = files.read_json(folder / "repeats.json")["seeds"]
    assert [seeds[number] for number in "12"] == [
        each.description["parameters"]["train.seed"] for each in (first, second)
    ]


def test_metrics_have_mean_and_spread(pipeline, trained):
    _, scores, reports, repeats = trained
    examples = Examples(pipeline.paths.examples)
    accuracies = []
    for number in "12":
        classifier = Classifier.load(repeats / number)
        predictions = classifier.predict([example.raw for example in examples.of("test")], top_k=1)
        actual = [example.label for example in examples.of("test")]
        labels = [prediction.top[0].label for prediction in predictions]
        accuracies.append(np.mean([label == other for label, other in zip(labels, actual, strict=True)]))
    metrics = files.read_json(reports / "metrics.json")
    assert metrics == scores.estimates()
    assert metrics["accuracy"] == pytest.approx(accuracies[0])
    assert metrics["accuracy_mean"] == pytest.approx(np.mean(accuracies))
    assert metrics["accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert "2 trainings with different seeds: accuracy" in evaluate.summary(scores)


def test_refit_is_calibrated_by_the_network_before(pipeline, tmp_path):
    before = train.run(changed(pipeline), folder=tmp_path / "before").classifier
    after = train.run(changed(pipeline, refit=True), folder=tmp_path / "after").classifier
    assert after.calibration == before.calibration
    assert not np.allclose(after.probabilities(["ACGG"]), before.probabilities(["ACGG"]), atol=1e-5)
    score = {name: value for name, value in before.description["trained"].items() if name.startswith("best_")}
    assert score.items() <= after.description["trained"].items()
    references = [read_reference(saved.folder, saved.description) for saved in (before, after)]
    assert references[0] == references[1] and references[0].count == references[0].accuracy.count > 10


def test_ensemble_is_one_graph_and_tells_its_cost(trained):
    classifier, _, reports, _ = trained
    record = classifier.description["trained"]["ensemble"]
    assert record["by"] == "probabilities" and len(record["members"]) > 1
    search = files.read_json(reports / "search.json")
    assert search["ensemble_valid_accuracy"] >= search["alone_valid_accuracy"]
    assert search["ensemble_megabytes"] >= search["alone_megabytes"] and "ensemble_milliseconds" not in search


def test_ensemble_is_not_trained_further(trained):
    with pytest.raises(ModelError, match=r"an ensemble of \d networks, which cannot be trained further; start from"):
        WarmStart.load(trained[-1] / "1")


def test_card_tells_of_all_three(pipeline, trained):
    classifier, _, reports, _ = trained
    facts = card.facts(
        classifier,
        Examples(pipeline.paths.examples),
        source="strands",
        reports=reports,
        name="dna",
        version="1",
        tags={"data_digest": "d"},
    )
    text = card.full(facts)
    assert "trained networks answer together" in text and "The graph has" in text
    assert "once more on the strands for training and for validation together" in text
    assert "Trained 2 times with different seeds" in text and "| accuracy mean |" not in text


def test_a_single_training_has_no_repeats(pipeline):
    alone = changed(pipeline)
    result = train.run(alone)
    assert files.read_json(alone.paths.repeats / "repeats.json") == {"seeds": {}}
    assert not {"refit", "ensemble"} & set(result.classifier.description["trained"])
    assert set(evaluate.run(alone).estimates()) == set(evaluate.run(alone).intervals)


def test_repeats_of_a_former_training_go(pipeline, tmp_path):
    folder = tmp_path / "classifier"
    assert train.run(changed(pipeline, repeats=2), folder=folder).repeats == tmp_path / "repeats"
    assert train.run(changed(pipeline), folder=folder).repeats is None
    assert not (tmp_path / "repeats").exists()


def test_other_folders_are_not_replaced(pipeline, tmp_path):
    (tmp_path / "repeats").mkdir()
    (tmp_path / "repeats" / "thesis.txt").write_text("mine")
    with pytest.raises(FlowermlError, match="repeats: has other contents, which repeats would replace"):
        train.run(changed(pipeline, repeats=2), folder=tmp_path / "classifier")
    # And `flowerml train` says so before it reads the data.
    with pytest.raises(FlowermlError, match="repeats: has other contents"):
        run.run(pipeline, tmp_path / "classifier", show_progress=Bar, on_summary=pytest.fail)


@pytest.mark.parametrize("content", ["", "null", '{"seeds": [[1]]}', '{"seeds": {"../x": 1}}', "[" * 10_000])
def test_damaged_list_of_repeats_is_one_line(tmp_path, content):
    (tmp_path / "repeats.json").write_text(content)
    with pytest.raises(ModelError, match=r"repeats\.json: expected a seed for each numbered repeat; train again"):
        list(others(tmp_path))


def test_repeats_for_other_classes_are_not_scored(pipeline, trained, tmp_path):
    classifier, _, _, repeats = trained
    folder = shutil.copytree(repeats, tmp_path / "repeats")
    description = files.read_json(folder / "2/classifier.json")
    files.write_json(folder / "2/classifier.json", {**description, "classes": description["classes"][::-1]})
    with pytest.raises(ModelError, match="repeats/2: expected a repeat for the same classes"):
        evaluate.run(pipeline, classifier=classifier, repeats=folder)


def test_examples_of_each_class_travel(pipeline):
    own = read_examples(train.run(changed(pipeline)).classifier)
    tested = {(example.label, example.raw) for example in Examples(pipeline.paths.examples).of("test")}
    assert [example.label for example in own].count("rich_in_a") == 3 == len(own) / 2
    assert {(example.label, example.raw) for example in own} <= tested


def test_number_of_examples_changes_no_other_byte(pipeline):
    before = train.run(changed(pipeline)).classifier.description["digests"]
    after = train.run(changed(pipeline, examples=0)).classifier
    assert read_examples(after) == [] and not (after.folder / EXAMPLES).exists()
    assert before.pop(EXAMPLES) and after.description["digests"] == before
