"""The graphs of fine-tuned networks and ensembles: what is saved answers as what was trained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.warm_start import WarmStart
from flowerml.core.errors import ModelError
from flowerml.engine import onnx
from flowerml.engine.feed_forward import FeedForward
from flowerml.tasks.image.encoder import Encoder
from flowerml.tasks.image.networks import Ensemble, FineTuned
from flowerml.tasks.image.sections import Encode

SIDE, CLASSES = 48, 3
ONE, TWO = "timm/test_resnet", ["timm/test_resnet", "timm/test_efficientnet"]


def encoder(backbone: str | list[str] = ONE, **changes: object) -> Encoder:
    values = {"weights": "none", "size": SIDE, "trainable_blocks": 1, "views": 1, "augment": None, "seed": 0}
    section = Encode.model_construct(**{"backbone": backbone, "cache": None, **values, **changes})
    return Encoder.fit((), section, SimpleNamespace(pixels=10**6))


def head(width: int) -> FeedForward:
    return FeedForward(width, CLASSES, hidden_units=[], dropout=0.0)


def fine_tuned(of: Encoder, name: str | None = None) -> FineTuned:
    """Return a network whose trained parameters differ from those published."""
    part = of.trainable(name)
    width = part.columns.stop - part.columns.start
    reads = "activations" if of.cached == "activations" else "image"
    network = FineTuned(part.module, head(width), trained=part.trained, reads=reads, train_depthwise=True)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


def pictures(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(count))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def assert_saved(of: Encoder, network: nn.Module, expected: torch.Tensor, tmp_path, detector=None) -> Encoder:
    """Assert that the graph of a network gives `expected`, in torch and as it is saved; return the encoder of it."""
    read = of.read_by(network)
    graph = read.graph(network, detector).eval()
    outputs = graph(pictures())
    logits = outputs if detector is None else outputs[0]
    torch.testing.assert_close(logits, expected)
    trace, check = (read.preprocessing.random_inputs(count, seed=count) for count in (1, 3))
    others = () if detector is None else ("out_of_distribution", "features")
    onnx.export(graph, tmp_path / "graph.onnx", trace=trace, check=check, output="logits", others=others)
    run = onnx.runner(tmp_path / "graph.onnx")({"image": pictures().numpy()})
    np.testing.assert_allclose(run, expected.detach().numpy(), rtol=1e-3, atol=1e-4)
    return read


def test_a_fine_tuned_network_is_saved_as_a_frozen_one(tmp_path):
    of = encoder()
    network = fine_tuned(of)
    read = assert_saved(of, network, network(pictures()), tmp_path)
    names = read.graph(network).state_dict().keys()
    assert names == encoder(trainable_blocks=0).graph(head(of.features)).state_dict().keys()
    assert read == of


def test_frozen_blocks_are_put_in_front_of_activations(tmp_path):
    of = encoder(cache="activations")
    network = fine_tuned(of)
    assert not {name for name, _ in network.named_parameters()} >= {
        f"backbone.{name}" for name in of.frozen.state_dict()
    }
    assert_saved(of, network, network(of._split.front(pictures())), tmp_path)


@pytest.mark.parametrize("name", TWO)
def test_one_of_several_backbones_is_saved_alone(name, tmp_path):
    of = encoder(TWO)
    network = fine_tuned(of, name)
    read = assert_saved(of, network, network(pictures()), tmp_path)
    assert (read.backbone, len(read.widths), read.trainable_blocks) == ((name,), 1, 1)
    read.save(tmp_path / "encoder")
    assert Encoder.load(tmp_path / "encoder") == read


def test_several_backbones_are_trained_as_one(tmp_path):
    of = encoder(TWO)
    network = fine_tuned(of)
    assert assert_saved(of, network, network(pictures()), tmp_path) == of


def test_an_ensemble_is_one_graph(tmp_path):
    of = encoder(TWO)
    members = [fine_tuned(of, TWO[1]), head(of.features).eval(), fine_tuned(of, TWO[0])]
    network = Ensemble(members, [0.5, 0.3, 0.2]).eval()
    features = of.frozen(pictures())
    expected = network.combine([members[0](pictures()), members[1](features), members[2](pictures())])
    read = assert_saved(of, network, expected, tmp_path, detector=Mean())
    assert (read, read.trainable_blocks) == (of, 1)


def test_an_ensemble_detects_by_its_first_network():
    of = encoder()
    network = Ensemble([fine_tuned(of), head(of.features)], [0.5, 0.5]).eval()
    _, strangeness, _ = of.graph(network, Mean()).eval()(pictures())
    torch.testing.assert_close(strangeness, network.members[0].backbone(pictures()).mean(1))


def test_an_ensemble_drops_what_no_member_reads():
    of = encoder(TWO)
    network = Ensemble([fine_tuned(of, TWO[0]), fine_tuned(of, TWO[0])], [0.5, 0.5])
    read = of.read_by(network)
    assert read.backbone == (TWO[0],)
    assert not any(name.startswith("frozen.") for name in read.graph(network).state_dict())


class Mean(nn.Module):
    features = ("first", "second")

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return features.mean(1), features[:, :2]


def test_training_continues_from_fine_tuned_weights(tmp_path):
    of = encoder()
    network = fine_tuned(of)
    Classifier.save(
        tmp_path / "classifier",
        kind="image",
        encoder=of,
        network=network,
        classes=("daisy", "poppy", "rose"),
        names={},
        parameters={},
        trained={},
    )
    start = WarmStart.load(tmp_path / "classifier")
    assert start.encoder == of
    weights = start.encoder.frozen.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in network.backbone.state_dict().items())
    again = fine_tuned(start.encoder)
    again.load_state_dict(start.weights)
    assert all(torch.equal(value, start.weights[name]) for name, value in again.head.state_dict().items())


def test_a_border_moves_when_training_continues():
    frozen = encoder(trainable_blocks=0)
    section = Encode.model_construct(backbone=ONE, size=SIDE, trainable_blocks=2, cache="activations")
    moved = frozen.adapted(section)
    assert (moved.trainable_blocks, moved.cached) == (2, "activations") and moved.activations is not None
    assert len(moved.trainable(None).trained) > len(encoder().trainable(None).trained)


def test_the_size_stays_when_training_continues():
    section = Encode.model_construct(backbone=ONE, size=SIDE + 16, trainable_blocks=1)
    with pytest.raises(
        ModelError, match=r"encode\.size: expected 48, that of the classifier to start from, found 64; "
    ):
        encoder().adapted(section)
