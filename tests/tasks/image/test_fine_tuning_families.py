"""Fine-tuning of several families of networks with random weights, from pictures to a saved classifier."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from flowerml.classifier.classifier import Classifier
from flowerml.data import encodings
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Example, Key
from flowerml.tasks.image import networks
from flowerml.tasks.image.encoder import Encoder
from flowerml.tasks.image.sections import Encode
from flowerml.tasks.pipelines import load_pipeline
from tests.tasks.image.test_fine_tuning import changed, pictures, start

SIDE, CLASSES = 48, ("a", "b")
FAMILIES = [
    ("timm/test_resnet", 1, "pictures"),
    ("timm/test_vit", 1, "pictures"),
    ("timm/test_convnext", 2, "activations"),
    ("timm/test_efficientnet", "all", "pictures"),
    (["timm/test_resnet", "timm/test_efficientnet"], 2, "pictures"),
]


def examples() -> list[Example]:
    """Return PNG files of two classes, of different sizes."""
    made = []
    for split, count, seed in (("train", 12, 1), ("valid", 6, 2)):
        rows, labels = pictures(count, 70, seed=seed)
        for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
            file = io.BytesIO()
            Image.fromarray(row[: 60 + number]).save(file, "png")
            made.append(Example(f"{split}{number}", split, CLASSES[label], file.getvalue()))
    return made


def encoded(folder, backbone, blocks, cache) -> tuple[Encoder, Encoded]:
    """Return an encoder, and the encodings of the examples in a file."""
    augment = {"rotation": 0.0, "smallest_crop": 0.5, "flip": True}
    values = {"backbone": backbone, "weights": "none", "size": SIDE, "trainable_blocks": blocks, "cache": cache}
    section = Encode.model_validate({**values, "views": 2, "augment": augment, "batch_size": 4, "seed": 0})
    encoder = Encoder.fit((), section, SimpleNamespace(pixels=10**6))
    keys = [Key(each.id, each.split, each.label, each.digest) for each in examples()]
    rows = zip(keys, encoder.encode(examples(), section), strict=True)
    encodings.write(folder / "encoded.arrow", rows, columns=encoder.columns)
    return encoder, Encoded.read(folder / "encoded.arrow")


@pytest.mark.parametrize(("backbone", "blocks", "cache"), FAMILIES)
def test_family_is_fine_tuned_and_saved(tmp_path, backbone, blocks, cache):
    encoder, table = encoded(tmp_path, backbone, blocks, cache)
    data = networks.training_data(table, CLASSES, encoder)
    values = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01, "batch_norm": "trained", "head_start": "random"}
    network, training = networks.build_network(data, load_pipeline("flowers").train.with_values(values))
    before, trained = start(network), encoder.trainable(None).trained
    assert [epoch.number for epoch in training] == [1, 2]
    moved = {name.removeprefix("backbone.") for name in changed(network, before) if name.startswith("backbone.")}
    parameters = {name for name, _ in network.backbone.named_parameters()}
    assert moved & parameters and moved & parameters <= trained
    classifier = Classifier.save(
        tmp_path / "classifier",
        kind="image",
        encoder=encoder,
        network=network,
        detector=networks.fit_detector(data, network).module,
        classes=CLASSES,
        names={},
        parameters={},
        trained={},
    )
    valid = [example.raw for example in examples() if example.split == "valid"]
    expected = networks.predict_valid(data, network).softmax(1).numpy()
    # Activations are cached in float16.
    np.testing.assert_allclose(classifier.probabilities(valid), expected, atol=2e-3 if cache == "activations" else 1e-4)


def test_one_of_several_backbones_is_trained(tmp_path):
    encoder, table = encoded(tmp_path, *FAMILIES[-1])
    data = networks.training_data(table, CLASSES, encoder)
    values = {"epochs": 1, "batch_size": 8, "backbone": "timm/test_efficientnet", "size": 32}
    network, training = networks.build_network(data, load_pipeline("flowers").train.with_values(values))
    list(training)
    assert network.head[1].in_features == 256 < encoder.features
    assert networks.predict_valid(data, network).shape == (6, 2) and torch.isfinite(network.head[1].weight).all()
