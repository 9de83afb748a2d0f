"""How far probabilities can be taken at their word: temperature, threshold, and what is said of an answer."""

import json
import math
import shutil

import numpy as np
import pytest
from scipy.special import log_softmax
from typer.testing import CliRunner

from flowerml import Classifier
from flowerml.classifier.calibration import (
    Calibration,
    expected_calibration_error,
    fit_temperature,
    fit_threshold,
    reliability,
    softmax,
)
from flowerml.classifier.classifier import Prediction
from flowerml.cli.app import app

TEXTS = ["Terrific film!", "A dull film."]
FLOWERS, REVIEWS = "models/flowers/classifier", "models/reviews/classifier"


def drawn(count, classes, *, seed=0):
    """Logits [N, C], and targets that are as probable as the logits say."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((count, classes))
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def loss(logits, targets):
    return -log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean()


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 30])
def test_the_temperature_undoes_what_logits_were_multiplied_with(factor, classes):
    logits, targets = drawn(20_000, classes)
    assert fit_temperature(factor * logits, targets) == pytest.approx(factor, rel=0.03)


def test_no_other_temperature_is_better():
    logits, targets = drawn(300, 5, seed=1)
    logits *= 2.5
    found = fit_temperature(logits, targets)
    others = [loss(logits / other, targets) for other in np.geomspace(0.1, 10, 200)]
    assert loss(logits / found, targets) <= min(others) + 1e-3


def test_examples_that_are_all_told_right_do_not_ask_for_certainty():
    targets = np.arange(200) % 4
    logits = np.eye(4)[targets]
    probabilities = softmax(logits / fit_temperature(logits, targets))
    assert 1 / 201 / 4 < 1 - probabilities.max(axis=1).mean() < 4 / 201


@pytest.mark.parametrize("shape", [(0, 3), (4, 1), (50, 3)])
def test_where_nothing_can_be_gained_the_temperature_is_one(shape):
    assert fit_temperature(np.zeros(shape), np.zeros(shape[0], dtype=np.int64)) == 1.0


def test_logits_that_are_always_wrong_end_at_the_bound():
    targets = np.arange(100) % 2
    assert fit_temperature(100 * np.eye(2)[1 - targets], targets) == pytest.approx(20)


@pytest.mark.parametrize("count", [1, 7, 20, 999])
@pytest.mark.parametrize("acceptance", [0.5, 0.9, 0.95, 0.99])
def test_at_least_the_wanted_share_is_known_and_hardly_more(count, acceptance):
    probabilities = softmax(drawn(count, 4)[0])
    known = (probabilities.max(axis=1) >= fit_threshold(probabilities, acceptance=acceptance)).mean()
    assert acceptance - 1e-9 <= known < acceptance + 1 / count


def test_an_acceptance_of_one_knows_everything():
    assert fit_threshold(softmax(drawn(50, 4)[0]), acceptance=1.0) == 0.0
    assert fit_threshold(np.zeros((0, 4)), acceptance=0.5) == 0.0


def test_equal_probabilities_are_all_known():
    assert all(map(Calibration(known_above=0.25).is_known, np.full((3, 4), 0.25)))
    threshold = fit_threshold(np.full((30, 3), 1 / 3), acceptance=0.5)
    assert Calibration(known_above=threshold).is_known(np.full(3, 1 / 3))


def test_reliability_counts_each_example_in_the_bin_of_its_best_probability():
    best = np.array([0.55, 0.6, 0.65, 0.95, 1.0])
    targets = np.array([0, 1, 0, 0, 0])
    table = reliability(np.stack([best, 1 - best], axis=1), targets, bins=10)
    assert table["count"].tolist() == [2, 1, 2]
    assert table["accuracy"].tolist() == [0.5, 1.0, 1.0]
    assert table["confidence"].tolist() == pytest.approx([0.575, 0.65, 0.975])


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy():
    best = np.array([0.55, 0.6, 0.65, 0.95, 1.0])
    probabilities = np.stack([best, 1 - best], axis=1)
    error = expected_calibration_error(probabilities, np.array([0, 1, 0, 0, 0]), bins=10)
    assert error == pytest.approx((2 * 0.075 + 0.35 + 2 * 0.025) / 5)
    assert math.isnan(expected_calibration_error(np.zeros((0, 2)), np.zeros(0, dtype=np.int64)))


def test_the_temperature_mends_the_calibration_error():
    logits, targets = drawn(5000, 10)
    before = expected_calibration_error(softmax(4 * logits), targets)
    calibration = Calibration.fit(4 * logits, targets, acceptance=0.9)
    after = expected_calibration_error(calibration.probabilities(4 * logits), targets)
    assert before > 0.2
    assert after < 0.03


@pytest.fixture
def recalibrated(reproduced, tmp_path):
    """A saved classifier with another calibration, or with none, as those were that came before."""

    def load(name, calibration):
        folder = shutil.copytree(reproduced.folder / name, tmp_path / "c", dirs_exist_ok=True)
        description = json.loads((folder / "classifier.json").read_text())
        del description["calibration"]
        (folder / "classifier.json").write_text(json.dumps({**description, **calibration}))
        return Classifier.load(folder)

    return load


@pytest.mark.parametrize("name", [FLOWERS, REVIEWS])
def test_training_stores_a_calibration_under_which_the_wanted_share_is_known(reproduced, name):
    from flowerml.data.examples import Examples

    classifier = Classifier.load(reproduced.folder / name)
    kept = json.loads((reproduced.folder / name / "classifier.json").read_text())["calibration"]
    assert classifier.calibration == Calibration(**kept)
    assert kept["acceptance"] == 0.95 == classifier.description["parameters"]["train.acceptance"]
    valid = Examples(reproduced.folder / "data" / name.split("/")[1] / "examples.parquet").of("valid")
    known = [one.known for one in classifier.predict(example.raw for example in valid)]
    assert 0.95 <= np.mean(known) < 0.95 + 1 / len(known)


def test_a_classifier_of_an_earlier_version_has_plain_probabilities_and_knows_everything(recalibrated):
    assert recalibrated(REVIEWS, {}).calibration == Calibration()
    (prediction,) = recalibrated(REVIEWS, {}).predict(["Of a thing that is no film."])
    assert prediction.known


def test_a_temperature_changes_probabilities_and_evidence_alike_and_no_order(recalibrated):
    texts = ["Terrific film!", "A dull film.", "Of a thing that is no film."]
    plain = recalibrated(REVIEWS, {})
    plainly, evidence = plain.probabilities(texts), plain.explain(texts[0])
    softer = recalibrated(REVIEWS, {"calibration": {"temperature": 2.0}})
    assert softer.probabilities(texts) == pytest.approx(softmax(np.log(plainly) / 2), abs=1e-6)
    weights = [2 * word.weight for word in softer.explain(texts[0]).words]
    assert weights == pytest.approx([word.weight for word in evidence.words], abs=1e-4)


def test_what_is_below_the_threshold_is_told_with_its_guesses_but_as_unknown(recalibrated):
    best = recalibrated(REVIEWS, {}).probabilities(TEXTS).max(axis=1)
    found = recalibrated(REVIEWS, {"calibration": {"known_above": float(best.max())}}).predict(TEXTS, top_k=1)
    assert [one.known for one in found] == (best == best.max()).tolist()
    assert [len(one.top) for one in found] == [1, 1]


def test_a_prediction_tells_of_it_in_json():
    assert Prediction((), known=False).to_json() == {"top": [], "known": False}


def test_the_command_line_marks_what_is_not_known(recalibrated, tmp_path):
    best = recalibrated(REVIEWS, {}).probabilities(TEXTS).max(axis=1)
    folder = recalibrated(REVIEWS, {"calibration": {"known_above": float(best.max())}}).folder
    known = [json.loads(line)["known"] for line in predicted(*TEXTS, "--model", folder, "--json").splitlines()]
    assert known == (best == best.max()).tolist()
    assert predicted(*TEXTS, "--model", folder).count("not sure") == 1
    assert "not sure" in predicted(TEXTS[best.argmin()], "--model", folder)
    assert "not sure" not in predicted(TEXTS[best.argmax()], "--model", folder)


@pytest.mark.parametrize(("known_above", "told"), [(1.0, True), (0.0, False)])
def test_a_figure_says_that_its_input_is_not_known(recalibrated, tmp_path, known_above, told):
    folder = recalibrated(REVIEWS, {"calibration": {"known_above": known_above}}).folder
    predicted(TEXTS[0], "--model", folder, "--plot", tmp_path / "figure.svg")
    assert ("(not sure)" in (tmp_path / "figure.svg").read_text()) is told


def predicted(*arguments):
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout
