"""Calibrated probabilities: temperature, threshold, and what an answer says of its confidence."""

import json
import shutil

import numpy as np
import pytest
from scipy.special import log_softmax
from typer.testing import CliRunner

from flowerml import Classifier
from flowerml.classifier.calibration import Calibration, fit_temperature, fit_threshold, softmax
from flowerml.classifier.prediction import Prediction
from flowerml.cli.app import app
from flowerml.core.errors import ModelError
from flowerml.evaluation.reliability import expected_calibration_error

TEXTS = ["Terrific film!", "A dull film."]
FLOWERS, REVIEWS = "models/flowers/classifier", "models/reviews/classifier"


def calibrated_answers(count, classes, *, seed=0):
    """Return logits [N, C], and targets that are as probable as the logits say."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((count, classes))
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def cross_entropy(logits, targets):
    return -log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean()


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 30])
def test_temperature_undoes_a_factor(factor, classes):
    logits, targets = calibrated_answers(20_000, classes)
    assert fit_temperature(factor * logits, targets) == pytest.approx(factor, rel=0.03)


def test_temperature_is_the_best():
    logits, targets = calibrated_answers(300, 5, seed=1)
    logits *= 2.5
    best = fit_temperature(logits, targets)
    losses = [cross_entropy(logits / temperature, targets) for temperature in np.geomspace(0.1, 10, 200)]
    assert cross_entropy(logits / best, targets) <= min(losses) + 1e-3


def test_all_correct_is_not_certainty():
    targets = np.arange(200) % 4
    logits = np.eye(4)[targets]
    probabilities = softmax(logits / fit_temperature(logits, targets))
    assert 1 / 201 / 4 < 1 - probabilities.max(axis=1).mean() < 4 / 201


@pytest.mark.parametrize("shape", [(0, 3), (4, 1), (50, 3)])
def test_temperature_is_one_without_gain(shape):
    assert fit_temperature(np.zeros(shape), np.zeros(shape[0], dtype=np.int64)) == 1.0


def test_temperature_is_bounded():
    targets = np.arange(100) % 2
    assert fit_temperature(100 * np.eye(2)[1 - targets], targets) == pytest.approx(20)


@pytest.mark.parametrize("count", [1, 7, 20, 999])
@pytest.mark.parametrize("acceptance", [0.5, 0.9, 0.95, 0.99])
def test_threshold_accepts_the_share(count, acceptance):
    probabilities = softmax(calibrated_answers(count, 4)[0])
    known = (probabilities.max(axis=1) >= fit_threshold(probabilities, acceptance=acceptance)).mean()
    assert acceptance - 1e-9 <= known < acceptance + 1 / count


def test_acceptance_of_one_knows_everything():
    assert fit_threshold(softmax(calibrated_answers(50, 4)[0]), acceptance=1.0) == 0.0
    assert fit_threshold(np.zeros((0, 4)), acceptance=0.5) == 0.0


def test_ties_at_the_threshold_are_known():
    assert all(map(Calibration(known_above=0.25).is_known, np.full((3, 4), 0.25)))
    threshold = fit_threshold(np.full((30, 3), 1 / 3), acceptance=0.5)
    assert Calibration(known_above=threshold).is_known(np.full(3, 1 / 3))


@pytest.mark.parametrize("acceptance", [0.8, 0.95, 1.0])
@pytest.mark.parametrize("count", [1, 5, 40, 2000])
def test_both_thresholds_share_the_budget(count, acceptance):
    logits, targets = calibrated_answers(count, 4)
    strangeness = np.random.default_rng(0).gamma(2, size=count)
    calibration = Calibration.fit(logits, targets, acceptance=acceptance, strangeness=strangeness)
    known = list(map(calibration.is_known, calibration.probabilities(logits), strangeness))
    strange = [calibration.is_strange(value) for value in strangeness]
    deviation = (acceptance * (1 - acceptance) / count) ** 0.5
    assert acceptance - 1e-9 <= np.mean(known) < acceptance + 4 * deviation + 3 / count
    assert np.mean(strange) <= 0.4 * (1 - acceptance)
    assert count < 2000 or acceptance == 1 or any(strange)


def test_held_out_examples_join_the_quantile():
    held_out = np.linspace(1, 2, 400)
    fit = {"logits": np.eye(2)[[0, 1, 0]], "targets": np.array([0, 1, 0]), "acceptance": 0.95}
    alone = Calibration.fit(**fit, strangeness=np.full(3, 0.5))
    together = Calibration.fit(**fit, strangeness=np.full(3, 0.5), held_out=held_out)
    assert alone.strange_above == pytest.approx(0.5, rel=1e-3)
    assert together.strange_above == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize("strange_above", [0, -1.0, 1e10, float("inf"), float("nan"), "far", True, [1.0]])
def test_a_forged_threshold_is_refused(strange_above):
    with pytest.raises(ModelError, match="strange_above"):
        Calibration.from_state({"strange_above": strange_above})


def test_temperature_lowers_ece():
    logits, targets = calibrated_answers(5000, 10)
    before = expected_calibration_error(softmax(4 * logits), targets)
    calibration = Calibration.fit(4 * logits, targets, acceptance=0.9)
    after = expected_calibration_error(calibration.probabilities(4 * logits), targets)
    assert before > 0.2
    assert after < 0.03


@pytest.fixture
def recalibrated(reproduced, tmp_path):
    """Return a function that loads a saved classifier with another calibration, or none as in earlier versions."""

    def load(name, calibration):
        folder = shutil.copytree(reproduced.folder / name, tmp_path / "c", dirs_exist_ok=True)
        description = json.loads((folder / "classifier.json").read_text())
        del description["calibration"]
        (folder / "classifier.json").write_text(json.dumps({**description, **calibration}))
        return Classifier.load(folder)

    return load


@pytest.mark.parametrize("name", [FLOWERS, REVIEWS])
def test_training_saves_a_calibration(reproduced, name):
    from flowerml.data.examples import Examples

    classifier = Classifier.load(reproduced.folder / name)
    saved = json.loads((reproduced.folder / name / "classifier.json").read_text())["calibration"]
    assert classifier.calibration == Calibration(**saved)
    assert saved["acceptance"] == 0.95 == classifier.description["parameters"]["train.acceptance"]
    valid = Examples(reproduced.folder / "data" / name.split("/")[1] / "examples.parquet").of("valid")
    known = [prediction.known for prediction in classifier.predict(example.raw for example in valid)]
    deviation = (0.95 * 0.05 / len(known)) ** 0.5
    assert 0.95 <= np.mean(known) < 0.95 + 2 * deviation + 2 / len(known)


def test_old_classifiers_know_everything(recalibrated):
    assert recalibrated(REVIEWS, {}).calibration == Calibration()
    (prediction,) = recalibrated(REVIEWS, {}).predict(["Of a thing that is no film."])
    assert prediction.known


def test_temperature_scales_evidence_too(recalibrated):
    texts = ["Terrific film!", "A dull film.", "Of a thing that is no film."]
    uncalibrated = recalibrated(REVIEWS, {})
    probabilities, evidence = uncalibrated.probabilities(texts), uncalibrated.explain(texts[0])
    softer = recalibrated(REVIEWS, {"calibration": {"temperature": 2.0}})
    assert softer.probabilities(texts) == pytest.approx(softmax(np.log(probabilities) / 2), abs=1e-6)
    weights = [2 * word.weight for word in softer.explain(texts[0]).words]
    assert weights == pytest.approx([word.weight for word in evidence.words], abs=1e-4)


def test_abstentions_keep_their_guesses(recalibrated):
    best = recalibrated(REVIEWS, {}).probabilities(TEXTS).max(axis=1)
    classifier = recalibrated(REVIEWS, {"calibration": {"known_above": float(best.max())}})
    predictions = classifier.predict(TEXTS, top_k=1)
    assert [prediction.known for prediction in predictions] == (best == best.max()).tolist()
    assert [len(prediction.top) for prediction in predictions] == [1, 1]


def test_known_is_in_the_json():
    assert Prediction((), known=False).to_json() == {"top": [], "known": False}


def test_command_line_marks_abstentions(recalibrated, tmp_path):
    best = recalibrated(REVIEWS, {}).probabilities(TEXTS).max(axis=1)
    folder = recalibrated(REVIEWS, {"calibration": {"known_above": float(best.max())}}).folder
    known = [json.loads(line)["known"] for line in predict(*TEXTS, "--model", folder, "--json").splitlines()]
    assert known == (best == best.max()).tolist()
    assert predict(*TEXTS, "--model", folder).count("not sure") == 1
    assert "not sure" in predict(TEXTS[best.argmin()], "--model", folder)
    assert "not sure" not in predict(TEXTS[best.argmax()], "--model", folder)


@pytest.mark.parametrize(("known_above", "marked"), [(1.0, True), (0.0, False)])
def test_plots_mark_abstentions(recalibrated, tmp_path, known_above, marked):
    folder = recalibrated(REVIEWS, {"calibration": {"known_above": known_above}}).folder
    predict(TEXTS[0], "--model", folder, "--plot", tmp_path / "figure.svg")
    assert ("(not sure: no class is probable enough)" in (tmp_path / "figure.svg").read_text()) is marked


def predict(*arguments):
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout
