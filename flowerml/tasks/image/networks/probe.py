"""The head that fine-tuning starts from: trained for seconds on the cached features of the published backbone.

A random head would send its first, senseless gradients into the pretrained weights (Kumar et al., 2022, "Fine-Tuning
can Distort Pretrained Features").
"""

import copy
import json
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from flowerml.engine.feed_forward import FeatureBatches
from flowerml.engine.fit import Trainer
from flowerml.tasks.image.sections import HEAD

if TYPE_CHECKING:
    from flowerml.tasks.image.sections import Train

OF_HEAD = ("learning_rate", "batch_size", "epochs", "optimizer", "weight_decay", "schedule", "patience")
CHOICES = {"seed", "backbone", "hidden_units", "dropout", "label_smoothing", "class_weights"}


class Probes:
    """The heads that trials start from; those that were trained are remembered, as trials may repeat them."""

    def __init__(self) -> None:
        self._weights: dict[str, dict[str, Tensor]] = {}

    def weights(self, head: nn.Module, data: FeatureBatches, section: "Train") -> dict[str, Tensor]:
        """Return the weights of a new `head` once it is trained on features; torch's generators stay as they are."""
        key = json.dumps(section.model_dump(include=CHOICES))
        if key not in self._weights:
            with torch.random.fork_rng():
                torch.manual_seed(section.seed)
                self._weights[key] = _trained(copy.deepcopy(head), data, section)
        return self._weights[key]


def _trained(head: nn.Module, data: FeatureBatches, section: "Train") -> dict[str, Tensor]:
    training = Trainer(
        head,
        data,
        **{name: HEAD[name] for name in OF_HEAD},
        label_smoothing=section.label_smoothing,
        class_weights=section.class_weights,
    )
    for _ in training:
        pass
    return head.state_dict()
