"""A classifier that is replaced while it is loaded is loaded wholly from one version."""

import os
import shutil
import signal
import time
from itertools import cycle

import onnx
import pytest

from flowerml import Classifier
from flowerml.classifier.warm_start import WarmStart
from flowerml.core import files
from tests.classifier.test_old_classifiers import SAVED

GOOD = ["good lovely great film"]


@pytest.fixture
def versions(tmp_path) -> list:
    """Return two classifiers that say "right" of a good film: one has negated logits and swapped names."""
    plain, negated = shutil.copytree(SAVED, tmp_path / "plain"), shutil.copytree(SAVED, tmp_path / "negated")
    graph = onnx.load(negated / "network.onnx")
    output = next(node for node in graph.graph.node if "logits" in node.output)
    output.output[:] = ["negative"]
    graph.graph.node.append(onnx.helper.make_node("Neg", ["negative"], ["logits"]))
    onnx.save(graph, negated / "network.onnx")
    label = Classifier.load(SAVED).predict(GOOD)[0].top[0].label
    for folder, right in ((plain, label), (negated, {"neg": "pos", "pos": "neg"}[label])):
        description = files.read_json(folder / "classifier.json")
        description["names"] = {name: "right" if name == right else "wrong" for name in ("neg", "pos")}
        files.write_json(folder / "classifier.json", description)
    return [plain, negated]


def put(version, folder) -> None:
    with files.replacing(folder) as temporary:
        shutil.copytree(version, temporary)


def test_classifier_is_of_one_version(versions, tmp_path):
    folder = tmp_path / "classifier"
    put(versions[0], folder)
    process = os.fork()
    if process == 0:
        for version in cycle(versions):
            put(version, folder)
            time.sleep(0.05)  # without a pause a fast disk replaces the folder more often than it can be loaded
    try:
        answers = [Classifier.load(folder).predict(GOOD)[0].top[0].name for _ in range(20)]
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    assert set(answers) == {"right"}


def test_warm_start_is_of_one_version(tmp_path, monkeypatch):
    folder = tmp_path / "classifier"
    put(SAVED, folder)
    load, loaded = Classifier.load, []

    def load_then_replace(path):
        loaded.append(load(path))
        if len(loaded) == 1:
            put(SAVED, folder)
        return loaded[-1]

    monkeypatch.setattr(Classifier, "load", load_then_replace)
    assert WarmStart.load(folder).kind == "text" and len(loaded) == 2
