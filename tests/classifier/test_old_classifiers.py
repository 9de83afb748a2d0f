"""A classifier saved by version 0.1.0 still loads, and answers as it did then."""

import json
from pathlib import Path

import pytest

from flowerml import Classifier
from flowerml.classifier.warm_start import WarmStart

SAVED = Path(__file__).with_name("saved_by_0_1_0")
THEN = json.loads(Path(__file__).with_name("saved_by_0_1_0_answers.json").read_text(encoding="utf-8"))


def test_it_answers_as_before():
    answers = [prediction.to_json() for prediction in Classifier.load(SAVED).predict(THEN["texts"])]
    for answer, before in zip(answers, THEN["answers"], strict=True):
        assert answer["known"] == before["known"]
        assert "out_of_distribution" not in answer and ("reason" in answer) is not answer["known"]
        assert [(top["label"], top["name"]) for top in answer["top"]] == [
            (top["label"], top["name"]) for top in before["top"]
        ]
        probabilities = [top["probability"] for top in answer["top"]]
        assert probabilities == pytest.approx([top["probability"] for top in before["top"]], abs=1e-6)


def test_it_explains_as_before():
    explanation = Classifier.load(SAVED).explain(THEN["texts"][1]).to_json()
    assert explanation["label"] == THEN["explanation"]["label"]
    assert [word["text"] for word in explanation["words"]] == [word["text"] for word in THEN["explanation"]["words"]]
    weights = [word["weight"] for word in explanation["words"]]
    assert weights == pytest.approx([word["weight"] for word in THEN["explanation"]["words"]], abs=1e-3)


def test_it_can_be_trained_further():
    start = WarmStart.load(SAVED)
    assert start.kind == "text" and start.classes == ("neg", "pos")
    assert start.encoder.state() == Classifier.load(SAVED).description["encoder"]
