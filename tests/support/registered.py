"""Small classifiers with random weights, and versions of them in a registry of their own."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from flowerml import Classifier
from flowerml.data.examples import Example
from flowerml.engine.feed_forward import FeedForward
from flowerml.registry import register
from flowerml.registry.register import Logged
from flowerml.tasks import image, text
from flowerml.tasks.image.sections import Encode as EncodePictures
from flowerml.tasks.text.networks import Blend
from flowerml.tasks.text.networks.lstm import Lstm
from flowerml.tasks.text.networks.ngrams import NGrams
from flowerml.tasks.text.sections import Encode as EncodeTexts
from flowerml.tracking import connection, runs
from tests.support.encoders import LIMITS, STEPS

SIDE = 48
CLASSES = ("daisy", "poppy", "rose")
LSTM: dict[str, Any] = {"embedding_dim": 4, "hidden_dim": 4, "layers": 1, "bidirectional": False, "pooling": "mean_max"}


def jpeg(seed: int, side: int = 64) -> bytes:
    """Return a picture of noise, always the same one."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def picture_classifier(folder: Path) -> Classifier:
    """Save a small classifier of pictures in a folder."""
    torch.manual_seed(0)
    values = {"weights": "none", "size": SIDE, "trainable_blocks": 0, "views": 1, "augment": None, "seed": 0}
    section = EncodePictures.model_construct(backbone="timm/test_resnet", cache=None, **values)
    encoder = image.Encoder.fit((), section, SimpleNamespace(pixels=10**6))
    network = FeedForward(encoder.features, len(CLASSES), hidden_units=[], dropout=0.0).eval()
    saved: dict[str, Any] = {"kind": "image", "encoder": encoder, "network": network, "classes": CLASSES}
    return Classifier.save(folder, **saved, names={"rose": "a rose"}, parameters={}, trained={"pipeline": "flowers"})


def text_classifier(folder: Path, digest: str = "") -> Classifier:
    """Save a small classifier of texts in a folder; `digest` is that of the examples it says it was trained on."""
    torch.manual_seed(0)
    section = EncodeTexts(**{**STEPS, "vocab_size": 40})
    raw = "A good film that was never dull, and a splendid cast."
    encoder = text.Encoder.fit([Example("1", "train", "pos", raw)], section, LIMITS)
    network = Blend(Lstm(encoder.preprocessing.codes, 2, **LSTM, dropout=0.0), NGrams(2, order=3, longest=0))
    saved: dict[str, Any] = {"kind": "text", "encoder": encoder, "network": network, "classes": ("neg", "pos")}
    trained = {"pipeline": "reviews", **({"data_digest": digest, "threads": 1} if digest else {})}
    return Classifier.save(folder, **saved, names={}, parameters={}, trained=trained)


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Work in a folder with a registry of its own; yield its address."""
    address = f"sqlite:///{folder}/mlflow.db"
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = address
    try:
        with contextlib.chdir(folder):
            connection.configure()  # MLflow keeps the address that another test of this process gave it
            yield address
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI")
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def register_version(classifier: Classifier, example: bytes | str, name: str) -> Logged:
    """Register a classifier as `flowerml train` does; the working directory is that of the registry."""
    with runs.run(name, "export", {}) as run:
        return register.log_model(run, classifier, example=example, name=name)
