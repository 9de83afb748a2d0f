"""Inputs unlike the training examples are not known, and every entrance says so and why."""

import csv
import importlib
import json
import sys

import numpy as np
import onnx
import pandas as pd
import pytest
from mlflow.pyfunc import PythonModelContext
from onnx import TensorProto, helper
from typer.testing import CliRunner

from flowerml import Classifier
from flowerml.classifier.calibration import Calibration
from flowerml.cli.app import app
from flowerml.core.errors import ModelError
from flowerml.data.examples import Example
from flowerml.engine.onnx import Graph
from flowerml.evaluation.evaluation import evaluate
from flowerml.serving.answer import Scores
from flowerml.serving.pyfunc import ClassifierModel
from flowerml.web.sources import LoadedSource
from tests.support.detecting import TEXTS, detecting_classifier
from tests.support.project import REPOSITORY

KNOWN, STRANGE, NOTHING = "A good film with a cast that is dull.", "story film dull cast is", "qwertz asdf 123!"
REASONS = {STRANGE: "unlike the training texts", NOTHING: "none of its words occurs in the training texts"}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return detecting_classifier(tmp_path_factory.mktemp("strange") / "c")


def test_only_strange_texts_are_rejected(classifier):
    predictions = classifier.predict([KNOWN, STRANGE, NOTHING])
    assert [prediction.known for prediction in predictions] == [True, False, False]
    assert [prediction.reason for prediction in predictions] == [None, REASONS[STRANGE], REASONS[NOTHING]]
    known, strange, nothing = (prediction.out_of_distribution for prediction in predictions)
    assert 0 < known < 0.5 < strange < nothing < 1


def test_every_entrance_gives_the_same_answer(classifier, tmp_path):
    texts = [KNOWN, STRANGE, NOTHING]
    predictions = classifier.predict(texts)
    facts = [(answer.known, answer.out_of_distribution, answer.reason) for answer in predictions]

    model = ClassifierModel()
    model.load_context(PythonModelContext({"classifier": str(classifier.folder)}, None))
    served = model.predict(None, pd.DataFrame({"text": texts}))
    assert [(answer["known"], answer["out_of_distribution"], answer["reason"] or None) for answer in served] == facts
    read = [Scores.from_json(json.loads(json.dumps(answer))) for answer in served]
    assert [(scores.known, scores.out_of_distribution, scores.reason) for scores in read] == facts

    shown = [LoadedSource(classifier.folder).ask(raw, top_k=2) for raw in texts]
    assert [(answer.known, answer.out_of_distribution, answer.reason) for answer in shown] == facts

    arguments = ["--model", str(classifier.folder)]
    printed = command("predict", *texts, *arguments, "--json")
    lines = [json.loads(line) for line in printed.splitlines()]
    assert lines == [{"input": text, **answer} for text, answer in zip(texts, served, strict=True)]
    assert f"not sure: {REASONS[NOTHING]}" in " ".join(command("predict", NOTHING, *arguments).split())

    command("predict", *texts, *arguments, "--out", str(tmp_path / "answers.csv"))
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = [
            (row["known"], float(row["out_of_distribution"]), row["reason"] or None) for row in csv.DictReader(file)
        ]
    assert rows == [(str(known), share, reason) for known, share, reason in facts]

    examples = [Example(str(number), "test", "pos", raw) for number, raw in enumerate(texts)]
    evaluation = evaluate(classifier, examples, batch_size=3)
    assert list(zip(evaluation.known, evaluation.out_of_distribution, strict=True)) == [fact[:2] for fact in facts]
    assert evaluation.strange.tolist() == [False, True, True]


def test_the_detector_costs_no_parity(classifier):
    """Alone and in a batch an input has the same strangeness."""
    _, together = classifier.scored([KNOWN, STRANGE, "film"])
    alone = [classifier.scored([raw])[1][0] for raw in (KNOWN, STRANGE, "film")]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_an_improbable_answer_has_another_reason(classifier):
    saved = Classifier(classifier.folder, classifier.description)
    saved.calibration = Calibration(known_above=1.0, strange_above=saved.calibration.strange_above)
    assert [answer.reason for answer in saved.predict([KNOWN, NOTHING])] == [
        "no class is probable enough",
        REASONS[NOTHING],
    ]


OUTPUTS = {
    "a third output": {"logits": [1, 2], "second": [1], "third": [1]},
    "a row for each class": {"logits": [1, 2], "second": [1, 2]},
    "two rows": {"logits": [1, 2], "second": [2]},
    "not finite": {"logits": [1, 2], "second": [1], "value": float("nan")},
}


@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS)
def test_forged_outputs_are_refused(outputs, tmp_path):
    value = outputs.pop("value", 0.5)
    shapes = {name: shape for name, shape in outputs.items() if isinstance(shape, list)}
    tensors = [
        helper.make_tensor(f"{name}_value", TensorProto.FLOAT, shape, [value] * int(np.prod(shape)))
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Constant", [], [name], value=tensor) for name, tensor in zip(shapes, tensors, strict=True)
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ModelError):
        Graph(tmp_path / "a.onnx").check({"x": np.zeros(1, np.float32)}, width=2)


def test_benchmark_prints_a_line_for_each_set(classifier, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    pd.DataFrame({"text": TEXTS}).to_csv(tmp_path / "inside.csv")
    pd.DataFrame({"text": [NOTHING, "qwertz yxcv"]}).to_csv(tmp_path / "outside.csv")
    sets = [str(tmp_path / name) for name in ("inside.csv", "outside.csv")]
    monkeypatch.setattr(sys, "argv", ["ood", str(classifier.folder), *sets])
    importlib.import_module("ood").main()
    *lines, cost = capsys.readouterr().out.splitlines()
    outside = next(line for line in lines if "outside.csv" in line).split()
    assert outside[1:] == ["2", "1.000", "0.000", "1.000", "1.000"]
    assert "without the detector" in cost


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout
