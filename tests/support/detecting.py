"""A small classifier of texts with random weights and a fitted detector."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from flowerml import Classifier
from flowerml.classifier.calibration import Calibration
from flowerml.data.examples import Example
from flowerml.tasks import text
from flowerml.tasks.records import Detector
from flowerml.tasks.text.networks.batches import Sequences
from flowerml.tasks.text.networks.lstm import Lstm
from flowerml.tasks.text.networks.typicality import fit_text_detector

STEPS = {"strip_html": True, "lower_case": True, "letters_and_digits": True, "stop_words": "drop", "stem": True}
TEXTS = [
    f"A {word} film with a {thing} that is {word}." for word in ("good", "dull") for thing in ("cast", "story")
] * 9


def detecting_classifier(folder: Path, extras: Callable[[Classifier], Mapping[str, bytes]] | None = None) -> Classifier:
    """Save the classifier in a folder, with the files that `extras` returns, and load it."""
    torch.manual_seed(0)
    section = SimpleNamespace(**STEPS, vocab_size=40, max_length=60, max_words=90, characters=0, backbone=None)
    examples = [Example(str(number), "train", "pos", raw) for number, raw in enumerate(TEXTS)]
    encoder = text.Encoder.fit(examples, section, SimpleNamespace(characters=1000))
    words = [row["words"] for row in encoder.encode(examples, section)]
    detector = fit_text_detector(
        Sequences(np.concatenate(words), np.append(0, np.cumsum([len(row) for row in words]))), None
    )
    sizes = {"embedding_dim": 4, "hidden_dim": 4, "layers": 1, "bidirectional": False, "pooling": "mean_max"}
    return Classifier.save(
        folder,
        kind="text",
        encoder=encoder,
        network=Lstm(encoder.preprocessing.codes, 2, **sizes, dropout=0.0),
        detector=detector.module,
        classes=("neg", "pos"),
        names={},
        parameters={},
        trained={"pipeline": "small"},
        calibrate=lambda saved: fitted(saved, detector),
        extras=extras,
    )


def fitted(saved: Classifier, detector: Detector) -> Calibration:
    """Return a calibration on a few of the texts."""
    probabilities, strangeness = saved.scored(TEXTS[:4])
    logits, targets = np.log(probabilities), np.array([0, 1, 0, 1])
    return Calibration.fit(logits, targets, acceptance=0.95, strangeness=strangeness, held_out=detector.held_out)
