"""What an evaluation says, and how sure it is of that."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as reference

from flowerml.classifier.calibration import Calibration, expected_calibration_error, softmax
from flowerml.evaluation import confusions, intervals, slices
from flowerml.evaluation.evaluation import Evaluation
from flowerml.evaluation.metrics import Headline, uncalibrated
from flowerml.tasks.registry import TASKS


def answers(count=300, classes=4, seed=0, sharp=2.0):
    """Probabilities [count, classes] of a classifier that is often right, and the targets."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(classes, size=count)
    logits = generator.normal(size=(count, classes)) + sharp * np.eye(classes)[targets]
    return softmax(logits), targets


def evaluation(probabilities, targets, **more):
    labels = tuple("abcdefghij"[: probabilities.shape[1]])
    ids = tuple(f"{number}.jpg" for number in range(len(targets)))
    return Evaluation(labels, {label: label.upper() for label in labels}, ids, targets, probabilities, **more)


def of_hits(hits):
    """The evaluation of two classes with these hits."""
    hits = np.asarray(hits, dtype=bool)
    return evaluation(np.where(hits[:, None], [0.9, 0.1], [0.2, 0.8]), np.zeros(len(hits), dtype=np.int64))


def test_the_interval_of_an_accuracy_is_that_of_a_binomial():
    hits = np.arange(500) % 10 > 0
    found = of_hits(hits).intervals(top_k=1, resamples=2000)["accuracy"]
    half = 1.96 * (0.9 * 0.1 / 500) ** 0.5
    assert (found.estimate, found.low, found.high) == pytest.approx((0.9, 0.9 - half, 0.9 + half), abs=0.003)


def test_nineteen_of_twenty_intervals_hold_the_truth():
    generator = np.random.default_rng(7)
    held = 0
    for _ in range(120):
        found = of_hits(generator.random(150) < 0.8).intervals(top_k=1, resamples=150)["accuracy"]
        held += found.low <= 0.8 <= found.high
    assert 0.89 <= held / 120 <= 0.99


def test_the_same_answers_have_the_same_limits():
    probabilities, targets = answers()
    one, again = (evaluation(probabilities, targets).intervals(top_k=2, resamples=50) for _ in range(2))
    assert one == again


def test_all_right_of_a_few_is_not_told_as_certain():
    found = of_hits([True] * 20).intervals(top_k=1, resamples=100)["accuracy"]
    assert found.estimate == found.high == 1 and found.low == pytest.approx(0.839, abs=0.001)


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(0, 10, 0, 0.2775), (8, 10, 0.4902, 0.9433), (0, 0, 0, 1)])
def test_shares_have_wilson_s_limits(hits, count, low, high):
    found = intervals.share(hits, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_a_difference_is_seen_in_pairs_where_the_two_alone_overlap():
    old = np.arange(1000) % 10 > 0
    new = old | (np.arange(1000) % 50 == 0)  # right on 20 more, and on all that were right
    found = intervals.paired_difference(new, old, resamples=2000, seed=0)
    assert found.estimate == pytest.approx(0.02)
    assert (found.low, found.high) == pytest.approx((0.02 - 0.0087, 0.02 + 0.0087), abs=0.002)
    assert of_hits(new).intervals(top_k=1, resamples=500)["accuracy"].low < old.mean() + 0.01


def test_limits_that_are_not_known_are_null_in_json():
    assert intervals.Interval(0.5, float("nan"), 0.7).limits() == {"low": None, "high": 0.7}


def test_the_same_answers_differ_by_nothing():
    hits = np.arange(100) % 3 > 0
    assert intervals.paired_difference(hits, hits, resamples=100, seed=0) == intervals.Interval(0, 0, 0)
    with pytest.raises(ValueError, match="the same examples"):
        intervals.paired_difference(hits, hits[1:], resamples=100, seed=0)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_numbers_are_those_of_scikit_learn_however_often_an_example_is_drawn(classes):
    probabilities, targets = answers(200, classes)
    counts = np.random.default_rng(1).integers(3, size=200)
    found = Headline(probabilities.round(2), targets, top_k=3, before=None, known=None)(counts)
    rows = np.repeat(np.arange(200), counts)
    drawn, truth = probabilities.round(2)[rows], targets[rows]
    best = drawn.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, best))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(truth, best, average="macro"))
    assert found["ece"] == pytest.approx(expected_calibration_error(drawn, truth))
    if classes == 2:
        assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(truth, drawn[:, 1]))
    else:
        assert found["top_3_accuracy"] >= found["accuracy"]
        exact = Headline(probabilities, targets, top_k=3, before=None, known=None)(counts)
        assert exact["loss"] == pytest.approx(reference.log_loss(truth, probabilities[rows], labels=range(5)))
        assert exact["top_3_accuracy"] == pytest.approx(
            reference.top_k_accuracy_score(truth, probabilities[rows], k=3, labels=range(5))
        )


def test_probabilities_before_the_temperature_are_found_again():
    logits = np.random.default_rng(0).normal(size=(20, 6)) * 3
    np.testing.assert_allclose(uncalibrated(softmax(logits / 0.4), Calibration(temperature=0.4)), softmax(logits))


def test_the_calibration_error_of_a_calibrated_classifier_may_be_nothing():
    generator = np.random.default_rng(3)
    held = 0
    for _ in range(20):
        right = generator.uniform(0.5, 1, 400)
        targets = (generator.random(400) > right).astype(np.int64)
        found = evaluation(np.stack([right, 1 - right], axis=1), targets).intervals(top_k=1, resamples=200)["ece"]
        assert 0 <= found.low <= found.estimate <= found.high
        held += found.low < 0.01
    assert held >= 18


def test_what_is_held_back_as_unknown_makes_the_rest_better():
    probabilities, targets = answers(1000)
    own = Calibration(2.0, known_above=0.7, acceptance=0.9)
    found = evaluation(probabilities, targets, calibration=own, known=probabilities.max(axis=1) >= 0.7)
    numbers = found.metrics(top_k=1)
    assert numbers["known_share"] == pytest.approx(np.mean(probabilities.max(axis=1) >= 0.7))
    assert numbers["known_accuracy"] > numbers["accuracy"] + 0.02
    assert numbers["ece_uncalibrated"] == pytest.approx(
        expected_calibration_error(uncalibrated(probabilities, own), targets)
    )
    nothing = evaluation(probabilities, targets, known=np.zeros(1000, dtype=bool)).metrics(top_k=1)
    assert nothing["known_share"] == 0 and "known_accuracy" not in nothing


def test_coverage_ends_with_all_answers_and_takes_equal_ones_together():
    probabilities, targets = answers(300)
    table = evaluation(probabilities.round(1), targets).coverage()
    assert table["threshold"].is_monotonic_decreasing and table["threshold"].is_unique
    assert table["share"].iloc[-1] == 1
    assert table["accuracy"].iloc[-1] == pytest.approx((probabilities.round(1).argmax(axis=1) == targets).mean())


def test_the_most_confused_classes_come_first_and_both_ways_are_counted():
    #                   0->1     1->0   2->3
    targets = np.array([0, 0, 0, 1, 1, 2, 2, 3, 0])
    given = np.array([1, 1, 0, 0, 1, 3, 2, 3, 2])
    first, second, third = confusions.pairs(targets, given, most=5)
    assert (first.first, first.second, first.mistakes) == (0, 1, 3)
    assert (first.first_as_second.tolist(), first.second_as_first.tolist()) == ([0, 1], [3])
    assert (second.first, second.second) == (2, 3)  # one mistake as the third, in fewer examples
    assert (third.first, third.second) == (0, 2)


def test_the_worst_mistake_is_the_one_that_gave_the_truth_least():
    probabilities = np.array([[0.6, 0.4], [0.99, 0.01], [0.2, 0.8], [0.7, 0.3]])
    assert evaluation(probabilities, np.array([1, 1, 1, 1])).mistakes(most=2).tolist() == [1, 3]


def test_a_slice_that_is_worse_is_found_and_noise_is_not():
    generator = np.random.default_rng(0)
    light = generator.random(800)
    properties = [{"brightness": one, "size": 256.0, "shape": "wide" if one > 0.5 else "tall"} for one in light]
    hits = generator.random(800) < np.where(light < np.quantile(light, 0.25), 0.7, 0.95)
    table = slices.table(properties, hits)
    worst = table.iloc[0]
    assert worst["property"] == "brightness" and worst["slice"].startswith("lowest quarter")
    assert worst["worse"] and worst["support"] == 200 and worst["low"] < worst["accuracy"] < worst["high"]
    assert "size" not in set(table["property"])  # it is the same everywhere
    noise = slices.table(properties, generator.random(800) < 0.9)
    assert not noise["worse"].any() and len(noise) == 6


def test_an_input_of_which_nothing_is_known_is_in_no_slice():
    properties = [{"words": float(number)} for number in range(40)] + [
        slices.properties_of(TASKS["image"], b"no picture")
    ]
    table = slices.table(properties, np.ones(41, dtype=bool))
    assert table["support"].tolist() == [10, 10, 10, 10]


def test_slices_raise_a_false_alarm_at_most_as_often_as_they_say():
    generator = np.random.default_rng(5)
    alarms = 0
    for _ in range(60):
        properties = [dict(zip("abcdef", row, strict=True)) for row in generator.random((120, 6))]
        alarms += slices.table(properties, generator.random(120) < 0.8)["worse"].any()
    assert alarms <= 7  # of 60: 0.05 each, so more than that once in a hundred


def test_every_slice_holds_what_its_name_says():
    properties = [{"words": float(number)} for number in (1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8)]
    table = slices.table(properties, np.ones(12, dtype=bool))
    assert dict(zip(table["slice"], table["support"], strict=True)) == {
        **{"lowest quarter, 1": 5, "second quarter, 2": 1, "third quarter, 3 to 5": 3, "highest quarter, 6 to 8": 3}
    }


def jpeg(colour, size=(60, 40), turned=False):
    buffer = io.BytesIO()
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    Image.new("RGB", size, colour).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_pictures_are_told_apart_by_light_colour_and_shape():
    of = TASKS["image"].properties
    dark, red = of(jpeg("black")), of(jpeg("red"))
    assert dark["brightness"] < 0.01 < red["brightness"] and dark["saturation"] < 0.01 < red["saturation"]
    assert (dark["shape"], of(jpeg("black", turned=True))["shape"], of(jpeg("red", (50, 50)))["shape"]) == (
        *("wide", "tall", "square"),
    )
    assert of(jpeg("red", (3000, 2000)))["short side, pixels"] == 2000


def test_a_blurred_picture_is_less_sharp():
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    sharp, blurred = io.BytesIO(), io.BytesIO()
    Image.fromarray(noise).save(sharp, "PNG")
    Image.fromarray(noise).resize((30, 20)).resize((300, 200)).save(blurred, "PNG")
    found = [TASKS["image"].properties(one.getvalue())["sharpness"] for one in (sharp, blurred)]
    assert found[0] > 2 * found[1]


@pytest.mark.parametrize(
    ("text", "negation", "words"),
    [
        ("I did not like it.", "yes", 5),
        ("It isn’t bad.", "yes", 3),
        ("Nothing<br />works", "yes", 2),
        ("A notable film, annoying as it is.", "no", 7),
        ("...", "no", 0),
    ],
)
def test_texts_are_told_apart_by_length_and_negation(text, negation, words):
    found = TASKS["text"].properties(text)
    assert (found["negation"], found["words"]) == (negation, words)


def test_tables_and_numbers_are_written(tmp_path):
    probabilities, targets = answers(60)
    properties = tuple({"brightness": one} for one in np.linspace(0, 1, 60))
    own = Calibration(1.5, 0.4, 0.95)
    found = evaluation(probabilities, targets, calibration=own, known=np.ones(60, bool), properties=properties)
    numbers = found.write(tmp_path, top_k=2, resamples=20)
    assert set(pd.read_csv(tmp_path / "reliability.csv")["probabilities"]) == {"calibrated", "uncalibrated"}
    assert len(pd.read_csv(tmp_path / "slices.csv")) == 4
    assert pd.read_json(tmp_path / "metrics.json", typ="series").to_dict() == pytest.approx(
        {name: one.estimate for name, one in numbers.items()}
    )
