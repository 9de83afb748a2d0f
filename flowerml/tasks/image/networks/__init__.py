"""The feed-forward head of the image task, trained on the features of a frozen backbone."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from flowerml.data.encodings import Encoded
from flowerml.engine.feature_distance import fit_feature_distance
from flowerml.engine.feed_forward import FeatureBatches, FeedForward, Views
from flowerml.engine.fit import Trainer, Training
from flowerml.tasks.base import Detector

if TYPE_CHECKING:
    from flowerml.tasks.image.sections import Train


def feature_batches(encoded: Encoded, classes: tuple[str, ...]) -> FeatureBatches:
    """Return the cached features of all views of the training and validation pictures, in memory."""
    splits = ("train", "valid")
    return FeatureBatches(
        {split: Views.of(*encoded.vectors(split, "features")) for split in splits},
        {split: encoded.targets(split, classes) for split in splits},
        classes=len(classes),
    )


def build_network(data: FeatureBatches, section: "Train") -> tuple[nn.Module, Training]:
    """Return a new head, drawn from the section's seed, and the iteration that trains it."""
    torch.manual_seed(section.seed)
    classes = len(data.train_counts)
    network = FeedForward(data.width, classes, hidden_units=section.hidden_units, dropout=section.dropout)
    return network, Trainer(network, data, **section.trainer_arguments())


def fit_detector(data: FeatureBatches) -> Detector:
    """Return the detector of pictures unlike the training pictures, judged by the plain view of each."""
    views = data.features["train"]
    distance, held_out = fit_feature_distance(views.values[views.offsets[:-1]].numpy())
    return Detector(nn.Sequential(distance, nn.Softplus()).eval(), np.logaddexp(0, held_out))
