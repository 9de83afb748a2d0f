"""A classifier with a file that its preprocessing needs: the tokenizer of a pretrained encoder."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from flowerml import Classifier
from flowerml.classifier.warm_start import WarmStart
from flowerml.core.errors import ModelError
from flowerml.tasks.text.networks.head import Head
from flowerml.tasks.text.networks.lstm import Lstm
from tests.support.encoders import SENTENCES, fit, write_encoder

TEXTS = [*SENTENCES, "film", "😀 \ud800", "good " * 1000]
PREDICT = """
import json, sys
from flowerml import Classifier
answers = Classifier.load(sys.argv[1]).predict(json.loads(sys.argv[2]))
print(json.dumps([answer.to_json() for answer in answers]))
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "huggingface_hub", "tokenizers"}))
"""


def save(folder, encoder, network) -> Classifier:
    return Classifier.save(
        folder,
        kind="text",
        encoder=encoder,
        network=network,
        classes=("a", "b", "c"),
        names={},
        parameters={},
        trained={},
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return fit(write_encoder(tmp_path_factory.mktemp("tiny")), prefix="film: ")


@pytest.fixture(scope="module")
def saved(encoder, tmp_path_factory):
    torch.manual_seed(0)
    return save(tmp_path_factory.mktemp("saved") / "c", encoder, Head(16, 3)).folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "c")


def test_the_tokenizer_is_in_the_folder(saved, encoder):
    assert (saved / "tokenizer.json").read_bytes() == encoder.assets()["tokenizer.json"]
    description = json.loads((saved / "classifier.json").read_text())
    assert description["assets"] == ["tokenizer.json"]
    assert set(description["digests"]) == {"network.onnx", "weights.safetensors", "tokenizer.json"}
    assert Classifier.load(saved).preprocessing.packages == ("tokenizers",)


def test_answers_do_not_depend_on_the_batch(saved):
    classifier = Classifier.load(saved)
    together = classifier.probabilities(TEXTS, batch_size=32)
    assert np.array_equal(np.concatenate([classifier.probabilities([text]) for text in TEXTS]), together)
    assert np.ptp(together[:, 0]) > 0.01


def test_predicting_needs_neither_torch_nor_transformers(saved):
    texts = TEXTS[:4]
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, str(saved), json.dumps(texts)], capture_output=True, text=True, check=True
    )
    answers, modules = done.stdout.splitlines()
    assert json.loads(answers) == [answer.to_json() for answer in Classifier.load(saved).predict(texts)]
    assert modules == "['tokenizers']"


def test_a_tokenizer_that_was_changed_is_refused(folder):
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b"film", b"movi"))
    with pytest.raises(ModelError, match=r"tokenizer\.json is not the file that was saved"):
        Classifier.load(folder)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\0" * 100])
def test_a_tokenizer_that_is_none_is_refused(folder, content):
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_bytes(content)
    description = json.loads((folder / "classifier.json").read_text())
    del description["digests"]
    (folder / "classifier.json").write_text(json.dumps(description))
    with pytest.raises(ModelError) as error:
        Classifier.load(folder)
    assert "tokenizer.json" in str(error.value) and str(error.value).isprintable()


def test_a_tokenizer_that_is_a_pipe_is_not_waited_for(folder):
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        Classifier.load(folder)


@pytest.mark.parametrize("assets", [["../tokenizer.json"], ["/etc/passwd"], [7], "tokenizer.json", ["a"], []])
def test_other_assets_are_refused(folder, assets):
    description = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps({**description, "assets": assets}))
    with pytest.raises(ModelError, match=r"assets|tokenizer\.json is missing"):
        Classifier.load(folder)


def test_a_network_that_reads_no_features_leaves_the_encoder_out(encoder, tmp_path):
    torch.manual_seed(0)
    sizes = {"embedding_dim": 2, "hidden_dim": 2, "layers": 1, "bidirectional": False}
    network = Lstm(encoder.preprocessing.codes, 3, **sizes, pooling="last", dropout=0.0)
    classifier = save(tmp_path / "c", encoder, network)
    assert not (classifier.folder / "tokenizer.json").exists()
    assert "backbone" not in classifier.description["encoder"] and classifier.preprocessing.packages == ()
    assert WarmStart.load(classifier.folder).encoder.frozen is None


def test_it_can_be_trained_further(saved, encoder):
    start = WarmStart.load(saved)
    assert start.encoder.state() == encoder.state() and start.encoder.assets() == encoder.assets()
    frozen = start.encoder.frozen.state_dict()
    assert all(torch.equal(frozen[name], value) for name, value in encoder.frozen.state_dict().items())
