"""Vectors and sequences that stay on the disk: the values, and the training, are those of copies in memory."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from flowerml.core.fingerprint import of_tensors
from flowerml.data import encodings
from flowerml.data.encodings import Encoded, Values, Vectors, rows, writer
from flowerml.data.examples import Key
from flowerml.engine.feed_forward import FeedForward, Views
from flowerml.engine.fit import Trainer
from flowerml.engine.on_disk import OnDisk
from flowerml.tasks.image import networks
from flowerml.tasks.image.networks import pictures
from flowerml.tasks.text.networks.batches import Sequences, StemBatches
from flowerml.tasks.text.networks.lstm import Lstm

KIND = {"features": pa.list_(pa.list_(pa.float32(), 5)), "stems": pa.list_(pa.int32())}
SECTION = {
    "learning_rate": 0.1,
    "batch_size": 4,
    "epochs": 3,
    "optimizer": "adamw",
    "weight_decay": 0.0,
    "schedule": "constant",
    "label_smoothing": 0.0,
    "patience": None,
    "class_weights": None,
}


@pytest.fixture
def encoded(tmp_path, monkeypatch):
    """Return rows of one view, and some of three, in batches of seven, in a folder of parts."""
    monkeypatch.setattr(writer, "ROWS", 7)
    rng = np.random.default_rng(0)
    made = [
        (
            Key(str(n), "valid" if n % 3 == 1 else "train", "ab"[n % 2], f"digest {n}"),
            {
                "features": rng.standard_normal((1 if n % 3 == 1 else 1 + n % 3, 5), np.float32),
                "stems": rng.integers(2, 9, 1 + n % 6).astype(np.int32),
            },
        )
        for n in range(60)
    ]
    path = tmp_path / "encoded.arrow"
    divided = [made[:20], [], made[20:]]
    encodings.write_resumably(path, divided, tmp_path / "folder", columns=KIND, fingerprints={}, parts={})
    return Encoded.read(path)


@pytest.fixture
def on_disk(monkeypatch):
    return lambda: monkeypatch.setattr(rows, "IN_MEMORY", 0)


def test_vectors_are_those_in_memory(encoded):
    values, offsets = encoded.vectors("train", "features")
    vectors = encoded.row_values("train", "features").vectors()
    chosen = np.random.default_rng(1).permutation(len(values))
    assert vectors.shape == values.shape and len(offsets) == 41
    np.testing.assert_array_equal(vectors[chosen], values[chosen])
    np.testing.assert_array_equal(vectors[3:90:7], values[3:90:7])
    both = vectors.followed_by(encoded.row_values("valid", "features").vectors())
    np.testing.assert_array_equal(both[:], np.concatenate([values, encoded.vectors("valid", "features")[0]]))


def test_all_rows_are_in_the_order_of_the_table(encoded):
    every = encoded.row_values(None, "features")
    firsts = [row[0] for row in encoded.table.column("features").to_pylist()]
    np.testing.assert_array_equal(every.first(np.arange(60)), np.array(firsts, np.float32))


def test_slices_of_values_are_those_in_memory(encoded):
    row_values = encoded.row_values("train", "stems")
    flat, values = row_values.flat(), Values(row_values)
    assert len(values) == len(flat)
    for start in range(0, len(flat), 3):
        for length in (0, 1, 2, 5, 40):
            np.testing.assert_array_equal(values[start : start + length], flat[start : start + length])
    np.testing.assert_array_equal(values[:], flat)


def test_a_split_without_rows_has_vectors(encoded):
    nothing = encoded.row_values("test", "features").vectors()
    assert nothing.shape == (0, 5) and nothing[:0].shape == (0, 5)


@pytest.mark.parametrize("refit", [False, True])
def test_a_head_trained_from_the_disk_is_the_same(encoded, on_disk, refit):
    digests = []
    for _ in range(2):
        data = networks.feature_batches(encoded, encoded.classes)
        data = pictures.of_columns(data, slice(1, 4))
        data = pictures.with_valid(data) if refit else data
        torch.manual_seed(0)
        head = FeedForward(3, 2, hidden_units=[4], dropout=0.2)
        scores = [epoch.train_loss for epoch in Trainer(head, data, **SECTION)]
        digests.append((of_tensors(head.state_dict()), scores, type(data.features["train"].values)))
        on_disk()
    assert digests[0][:2] == digests[1][:2]
    assert [digest[2] for digest in digests] == [torch.Tensor, OnDisk]


def test_the_detector_from_the_disk_is_the_same(encoded, on_disk):
    detectors = []
    for _ in range(2):
        data = networks.feature_batches(encoded, encoded.classes)
        detector = networks.fit_detector(data, torch.nn.Linear(5, 2))
        logits = networks.predict_valid(data, torch.nn.Linear(5, 2, bias=False).requires_grad_(False))
        detectors.append((detector.held_out.tolist(), logits.shape))
        on_disk()
    assert detectors[0] == detectors[1]


@pytest.mark.parametrize("refit", [False, True])
def test_an_lstm_trained_from_the_disk_is_the_same(encoded, on_disk, refit):
    digests = []
    for _ in range(2):
        stems = {split: Sequences.of(encoded, split, "stems") for split in ("train", "valid")}
        targets = {split: encoded.targets(split, encoded.classes) for split in stems}
        if refit:
            stems["train"] = stems["train"].followed_by(stems["valid"])
            targets["train"] = np.concatenate([targets["train"], targets["valid"]])
        torch.manual_seed(0)
        network = Lstm(9, 2, embedding_dim=4, hidden_dim=4, layers=1, bidirectional=True, pooling="last", dropout=0.0)
        for _ in Trainer(network, StemBatches(stems, targets, classes=2), **SECTION):
            pass
        digests.append((of_tensors(network.state_dict()), type(stems["train"].values)))
        on_disk()
    assert digests[0][0] == digests[1][0]
    assert [digest[1] for digest in digests] == [np.ndarray, Values]


def test_both_splits_are_on_the_disk_or_none(encoded, monkeypatch):
    monkeypatch.setattr(rows, "IN_MEMORY", 20 * 20)
    splits = encoded.vectors_to_train_on("features")
    assert [type(vectors) for vectors, _ in splits.values()] == [Vectors, Vectors]
    assert isinstance(Views.of(*splits["valid"]).values, OnDisk)
