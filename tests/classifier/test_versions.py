"""A classifier that is trained again with other versions of packages, and comes out the same."""

import pytest
import torch

from flowerml import Classifier
from flowerml.tasks.text.networks.head import Head
from tests.support.encoders import fit, write_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return fit(write_encoder(tmp_path_factory.mktemp("tiny")), prefix="film: ")


def save(folder, encoder, version: str, *, seed: int = 0, threads: int = 1) -> bytes:
    """Save a classifier as one trained with a version; return its classifier.json."""
    torch.manual_seed(seed)
    Classifier.save(
        folder,
        kind="text",
        encoder=encoder,
        network=Head(16, 3),
        classes=("a", "b", "c"),
        names={},
        parameters={},
        trained={"threads": threads, "python": version, "version.flowerml": version},
    )
    return (folder / "classifier.json").read_bytes()


def test_the_same_classifier_keeps_the_versions_it_was_first_trained_with(encoder, tmp_path):
    before = save(tmp_path / "c", encoder, "0.1.0")
    assert save(tmp_path / "c", encoder, "0.2.0") == before


@pytest.mark.parametrize("changed", [{"seed": 1}, {"threads": 2}])
def test_another_classifier_has_its_own_versions(encoder, tmp_path, changed):
    save(tmp_path / "c", encoder, "0.1.0")
    assert b'"version.flowerml": "0.2.0"' in save(tmp_path / "c", encoder, "0.2.0", **changed)


def test_a_damaged_former_classifier_is_replaced(encoder, tmp_path):
    save(tmp_path / "c", encoder, "0.1.0")
    (tmp_path / "c/classifier.json").write_text("{")
    assert b'"version.flowerml": "0.2.0"' in save(tmp_path / "c", encoder, "0.2.0")
