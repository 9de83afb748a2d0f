"""The wire format: what is written is read back, and what is malformed is refused."""

import json

import pytest

from flowerml.classifier.prediction import ClassProbability, Prediction
from flowerml.core.errors import InputError, ModelError
from flowerml.serving.answer import Answer, Scores, answer_json, error_json, parse_error, parse_reply, request_json
from flowerml.tasks.text.explanation import Explanation, Word
from tests.support.serving import MODEL, make_answer

TOP = [{"label": "a", "name": "A", "probability": 0.9}]
COLUMNS = ["top", "known", "out_of_distribution", "reason", "error", "model", "explanation"]


def test_answer_is_read_as_written():
    explanation = Explanation("a", (Word("good", 2.0),))
    prediction = Prediction((ClassProbability("a", "A", 0.9),), False, out_of_distribution=0.8, reason="unlike all")
    written = json.loads(json.dumps(answer_json(prediction, MODEL, explanation)))
    assert list(written) == COLUMNS
    answer = Answer.from_json(written)
    assert answer.top == prediction.top and answer.known is False
    assert (answer.out_of_distribution, answer.reason) == (0.8, "unlike all")
    assert (answer.model, answer.version) == ("m", "3")
    assert (answer.explained_label, answer.words) == ("a", (("good", 2.0),))


def test_error_is_read_as_written():
    written = error_json(InputError("empty_text", "the text is empty"), MODEL)
    assert list(written) == COLUMNS
    assert (written["top"], written["known"], written["model"]) == ([], False, MODEL)
    error = parse_error(written)
    assert isinstance(error, InputError) and (error.code, error.message) == ("empty_text", "the text is empty")


def test_members_of_an_answer_are_null_and_not_the_answer():
    prediction = Prediction((ClassProbability("a", "A", 0.9),), known=True)
    written = answer_json(prediction, MODEL)
    assert written["error"] == {"code": None, "message": None}
    assert written["explanation"] == {"label": None, "heat_map": None, "words": []}
    assert parse_error(written) is None
    answer = Answer.from_json(written)
    assert (answer.out_of_distribution, answer.reason) == (None, None)
    assert (answer.explained_label, answer.heat_map, answer.words) == (None, None, None)


def test_older_models_say_less():
    answer = Answer.from_json({"top": TOP, "known": True, "model": MODEL})
    assert answer.known and answer.out_of_distribution is None and answer.reason is None
    assert answer.explained_label is None
    assert parse_error({"top": TOP}) is None
    heat_map = {"kind": "image", "label": "a", "heat_map": "aGVhdA=="}
    explained = Answer.from_json({"top": TOP, "model": MODEL, "explanation": heat_map})
    assert (explained.explained_label, explained.heat_map, explained.words) == ("a", b"heat", None)
    error = parse_error({"error": {"code": "empty_text", "message": "the text is empty"}})
    assert error is not None and error.code == "empty_text"


def test_scores_need_no_model():
    assert Scores.from_json({"top": TOP}).probabilities == {"a": 0.9}
    with pytest.raises(ModelError):
        Answer.from_json({"top": TOP})


def test_request_has_one_column():
    frame = {"columns": ["text"], "data": [["a"], ["b"]]}
    assert request_json("text", ["a", "b"], {}) == {"dataframe_split": frame}
    assert request_json("text", ["a", "b"], {"top_k": 1})["params"] == {"top_k": 1}


@pytest.mark.parametrize(
    "content", [b"no JSON", b"[]", b'{"predictions": [{}]}', b'{"predictions": [1, 2]}', b"[" * 100_000]
)
def test_malformed_reply_is_refused(content):
    with pytest.raises(ModelError, match="not a reply of a flowerml model to 2 rows"):
        parse_reply(content, 2)


@pytest.mark.parametrize("error", ["no", {}, {"code": "a"}, ["code"]])
def test_malformed_error_is_refused(error):
    with pytest.raises(ModelError, match="not an error of a flowerml model"):
        parse_error({"error": error})


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"top": [], "model": MODEL},
        {"top": TOP},
        {"top": TOP, "model": "m"},
        {"top": TOP, "model": MODEL, "known": "yes"},
        {"top": TOP, "model": MODEL, "out_of_distribution": 1.5},
        {"top": TOP, "model": MODEL, "out_of_distribution": "far"},
        {"top": [{**TOP[0], "probability": float("nan")}], "model": MODEL},
        {"top": [{**TOP[0], "probability": 2}], "model": MODEL},
        {"top": TOP, "model": MODEL, "explanation": {"label": "a", "heat_map": '"><script>'}},
        {"top": TOP, "model": MODEL, "explanation": {"label": "a", "words": [{"text": "x"}]}},
        ["top"],
    ],
)
def test_malformed_answer_is_refused(value):
    with pytest.raises(ModelError, match="not an answer of a flowerml model"):
        Answer.from_json(value)


@pytest.mark.parametrize(
    ("probabilities", "unsure"),
    [((0.67, 0.33), True), ((0.68, 0.32), False), ((0.34, 0.1, 0.1, 0.1, 0.1), True), ((0.36, 0.1, 0.1), False)],
)
def test_unsure_depends_on_class_count(probabilities, unsure):
    assert make_answer(*probabilities).is_unsure(None) is unsure


def test_unsure_threshold_is_an_option():
    assert make_answer(0.9, 0.1).is_unsure(0.95)
    assert not make_answer(0.51, 0.49).is_unsure(0.5)


def test_known_decides_without_threshold():
    assert make_answer(0.99, known=False).is_unsure(None)
    assert not make_answer(0.2, known=True).is_unsure(None)
    assert make_answer(0.2, known=True).is_unsure(0.5)
    assert not make_answer(0.99, known=False).is_unsure(0.5)
