"""The networks of the image task: a head on cached features, a fine-tuned backbone with a head, and ensembles."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from flowerml.core.display import one_line
from flowerml.core.errors import ParamsError
from flowerml.data.encodings import Encoded
from flowerml.engine.components import Components
from flowerml.engine.devices import Inputs, device, on_device
from flowerml.engine.feature_distance import (
    MAX_EXAMPLES,
    MAX_PROTOTYPES,
    MIN_DEVIATION,
    PER_PROTOTYPE,
    FeatureDistance,
    fit_feature_distance,
)
from flowerml.engine.feed_forward import FeatureBatches, FeedForward, Views
from flowerml.engine.fit import Batches, Trainer, Training
from flowerml.engine.on_disk import OnDisk
from flowerml.engine.optimizers import Group
from flowerml.engine.recipe import Recipe
from flowerml.tasks.image.encoder.features import select_engine
from flowerml.tasks.image.networks import pictures
from flowerml.tasks.image.networks.batches import ActivationBatches, PictureBatches
from flowerml.tasks.image.networks.detector import PictureDetector
from flowerml.tasks.image.networks.ensemble import Ensemble
from flowerml.tasks.image.networks.fine_tuned import FineTuned
from flowerml.tasks.image.networks.pictures import PictureData
from flowerml.tasks.records import Detector

if TYPE_CHECKING:
    from flowerml.tasks.image.encoder import Encoder
    from flowerml.tasks.image.sections import Train

__all__ = ["Ensemble", "FineTuned", "TrainingData"]

TrainingData = FeatureBatches | PictureData
"""Cached features alone, where nothing but a head is trained, or what is trained on besides."""

BATCH = 64  # pictures at once where nothing is trained
AT_ONCE = 2**17  # features at once that stay on the disk; those in memory are one product of matrices
ENOUGH = MAX_PROTOTYPES * PER_PROTOTYPE  # pictures for a detector, which the backbone has to see once more


def training_data(encoded: Encoded, classes: tuple[str, ...], encoder: "Encoder") -> TrainingData:
    """Return the encodings, ready for any number of trials; features in memory if they fit, the rest on the disk."""
    features = feature_batches(encoded, classes)
    return features if encoder.cached is None else PictureData.read(encoded, features, encoder)


def feature_batches(encoded: Encoded, classes: tuple[str, ...]) -> FeatureBatches:
    """Return the cached features of all views of the training and validation pictures."""
    features = encoded.vectors_to_train_on("features")
    return FeatureBatches(
        {split: Views.of(*vectors) for split, vectors in features.items()},
        {split: encoded.targets(split, classes) for split in features},
        classes=len(classes),
    )


def build_network(data: TrainingData, section: "Train") -> tuple[nn.Module, Training]:
    """Return a new network, drawn from the section's seed, and the iteration that trains it. Raises ParamsError."""
    torch.manual_seed(section.seed)
    _check_epochs("warmup_epochs", section.warmup_epochs, section.epochs, "no step has the full learning rate")
    if isinstance(data, PictureData) and section.fine_tune:
        return _fine_tuned(data, section)
    features = _features(data)
    network = _head(features, section)
    return network, Trainer(network, features, **section.trainer_arguments(), recipe=_recipe(section))


def _head(features: FeatureBatches, section: "Train") -> FeedForward:
    classes = len(features.train_counts)
    return FeedForward(features.width, classes, hidden_units=section.hidden_units, dropout=section.dropout)


def _check_epochs(name: str, value: float, epochs: int, otherwise: str) -> None:
    """Raise ParamsError where a part of a training takes all of its epochs."""
    if value >= epochs:
        raise ParamsError(
            f"train.{name}: expected less than train.epochs ({epochs}), found {value:g}, with which {otherwise}; "
            "lower it, or raise train.epochs"
        )


def _fine_tuned(data: PictureData, section: "Train") -> tuple[FineTuned, Trainer]:
    _check_epochs("freeze_epochs", section.freeze_epochs, section.epochs, "the backbone is never trained")
    part = data.encoder.trainable(section.backbone)
    features = pictures.of_columns(data.features, part.columns)
    network = FineTuned(
        part.module,
        _head(features, section),
        trained=part.trained,
        reads="image" if data.shape is None else "activations",
        batch_norm=section.batch_norm,
        train_depthwise=section.train_depthwise,
    )
    groups = network.groups(part.groups, share=section.backbone_learning_rate, layer_decay=section.layer_decay)

    def start() -> None:
        if section.head_start == "probe" and not network.started:
            network.head.load_state_dict(data.probes.weights(network.head, features, section))

    batches = _batches(data, network, section)
    return network, Trainer(
        network, batches, **section.trainer_arguments(), recipe=_recipe(section, groups), start=start
    )


def _recipe(section: "Train", groups: Sequence[Group] | None = None) -> Recipe:
    return Recipe(
        groups=groups,
        freeze_epochs=section.freeze_epochs,
        warmup_epochs=section.warmup_epochs,
        ema=section.ema,
        mixup=section.mixup,
        clip_norm=section.clip_norm,
        accumulate=section.accumulate,
        precision=section.precision,
    )


def _batches(data: PictureData, network: FineTuned, section: "Train") -> Batches:
    if data.shape is not None:
        return ActivationBatches(data)
    height, width = data.encoder.preprocessing.to_pixels.size
    if section.size is None:
        return PictureBatches(data, section.augment, size=(height, width))
    size = section.size, round(section.size * width / height)
    _check_size(network, size)
    return PictureBatches(data, section.augment, size=size)


@torch.inference_mode()
def _check_size(network: FineTuned, size: tuple[int, int]) -> None:
    """Raise ParamsError where the backbone takes no pictures of this size."""
    try:
        network.eval()(torch.zeros(1, 3, *size, device=next(network.parameters()).device))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ParamsError(
            f"train.size: the backbone takes no pictures of {size[0]} x {size[1]} ({one_line(error, 120)}); set it to "
            "null, for those it answers on"
        ) from None


def _features(data: TrainingData) -> FeatureBatches:
    return data.features if isinstance(data, PictureData) else data


def with_valid(data: TrainingData) -> TrainingData:
    """Return the examples of both splits as training examples, and none to validate on."""
    return data.with_valid() if isinstance(data, PictureData) else pictures.with_valid(data)


def suggested_threads(data: TrainingData, section: "Train") -> int | None:
    """Return one thread of torch for a head, which is no faster with two and slower on a busy machine; else None."""
    return None if isinstance(data, PictureData) and section.fine_tune else 1


def valid_targets(data: TrainingData) -> Tensor:
    """Return the class of each validation picture, [N]."""
    return _features(data).targets["valid"]


def predict_valid(data: TrainingData, network: nn.Module) -> Tensor:
    """Return the logits of the validation pictures, [N, C], on the CPU."""
    if isinstance(network, Ensemble):
        return network.combine([predict_valid(data, member) for member in network.members])
    count = len(valid_targets(data))
    return _outputs(network, _plain(data, network, "valid", torch.arange(count)))


def fit_detector(data: TrainingData, network: nn.Module, before: Detector | None = None) -> Detector:
    """Return the detector of pictures unlike the training pictures, judged by the plain view of each.

    It reads the features that `network` reads, or its backbone gives; of an ensemble, those of the first member. The
    pictures that a backbone was fine-tuned on are closer than new ones are: there validation pictures are held out.
    Where it was fine-tuned on these, too, the scale is that on which training pictures are as with the detector
    `before` that.
    """
    if isinstance(network, Ensemble):
        return fit_detector(data, network.members[0], before)
    if isinstance(network, FineTuned):
        assert isinstance(data, PictureData), "fine-tuned networks are trained on pictures or activations"
        train = _backbone_features(data, network.eval(), "train")
        if before is not None:
            return _like(before, train)
        distance, held_out = fit_feature_distance(train, held_out=_backbone_features(data, network, "valid"))
        return _detector(distance, train, held_out, seen=_moments(distance, train))
    views = _features(data).features["train"]
    # Only those that would be clustered: all of a million would not fit into memory.
    chosen = torch.arange(0, len(views.offsets) - 1, max(1, -(-(len(views.offsets) - 1) // MAX_EXAMPLES)))
    features = views.first(chosen).numpy()
    distance, held_out = fit_feature_distance(features)
    return _detector(distance, features, held_out)


def _detector(
    distance: FeatureDistance,
    features: NDArray[np.float32],
    held_out: NDArray[np.float64],
    *,
    seen: tuple[float, float] = (0.0, 1.0),
) -> Detector:
    module = PictureDetector(distance, Components.fit(features))
    return Detector(module.eval(), np.logaddexp(0, held_out), seen)


def _like(before: Detector, train: NDArray[np.float32]) -> Detector:
    """Return the detector of a network with these features of the training pictures [N, D], on the scale of another.

    Distances grow with every step of training, also those of new pictures: after a refit on 1.4 times as many of
    flowers of five kinds, 14 % of the test would be strange by the former mean and spread, and are 1 % by these.
    """
    distance, _ = fit_feature_distance(train)
    distance.mean, distance.spread = 0.0, 1.0
    (mean, deviation), (mean_before, deviation_before) = _moments(distance, train), before.seen
    distance.spread = max(deviation / max(deviation_before, MIN_DEVIATION), MIN_DEVIATION)
    distance.mean = mean - mean_before * distance.spread
    return Detector(PictureDetector(distance, Components.fit(train)).eval(), before.held_out, before.seen)


@torch.inference_mode()
def _moments(distance: FeatureDistance, features: NDArray[np.float32]) -> tuple[float, float]:
    """Return mean and standard deviation of the distances of features [N, D]."""
    distances = distance(torch.from_numpy(features)).double()
    return float(distances.mean()), float(distances.std(correction=0))


def _backbone_features(data: PictureData, network: FineTuned, split: str) -> NDArray[np.float32]:
    """Return the features [N, D] that a fine-tuned backbone gives for at most ENOUGH pictures, evenly spaced."""
    count = len(data.rows[split])
    numbers = torch.arange(0, count, max(1, -(-count // ENOUGH)))
    if data.shape is not None:
        return _outputs(network.backbone, data.plain(split, numbers, batch_size=BATCH)).numpy()
    transform = data.encoder.preprocessing.to_pixels

    def views(number: int) -> list[NDArray[np.float32]]:
        return [transform.normalize(Image.fromarray(data.served(split, number)))]

    # Not torch: on a CPU ONNX Runtime takes half the time, in float32 both.
    engine = select_engine(network.backbone, size=transform.size)
    return np.concatenate([*engine.extract(views, numbers.tolist(), batch_size=BATCH)])


def _plain(data: TrainingData, network: nn.Module, split: str, numbers: Tensor) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield the plain view of pictures of a split, by their numbers, as a network reads it."""
    if isinstance(network, FineTuned):
        assert isinstance(data, PictureData), "fine-tuned networks are trained on pictures or activations"
        return data.plain(split, numbers, batch_size=BATCH)
    views, targets = _features(data).features[split], _features(data).targets[split]
    parts = numbers.split(AT_ONCE) if isinstance(views.values, OnDisk) and len(numbers) else [numbers]
    return (((views.first(part),), targets[part]) for part in parts)


@torch.inference_mode()
def _outputs(module: nn.Module, batches: Iterator[tuple[Inputs, Tensor]]) -> Tensor:
    """Return what a module gives for all batches, on the CPU."""
    module.eval().to(device())
    return torch.cat([module(*inputs).cpu() for inputs, _ in on_device(batches)])
