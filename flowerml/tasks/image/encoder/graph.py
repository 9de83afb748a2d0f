"""The torch module that is saved as a classifier's graph: backbones, network and detector."""

import copy
from collections import OrderedDict

from torch import Tensor, nn

from flowerml.tasks.image.encoder.backbone import Frozen, Towers
from flowerml.tasks.image.networks.ensemble import Ensemble
from flowerml.tasks.image.networks.fine_tuned import FineTuned


def graph(frozen: nn.Module, network: nn.Module, detector: nn.Module | None) -> nn.Module:
    """Return a module from prepared pictures to logits, or (logits, strangeness, features) where there is a detector.

    A fine-tuned network's backbone is saved as a frozen one, and its head as the network: from then on nothing else
    distinguishes it from a head on other weights.
    """
    if isinstance(network, Ensemble):
        return _EnsembleGraph(frozen, network, detector)
    if isinstance(network, FineTuned):
        frozen, network = _whole(frozen, network), network.head
    if detector is None:
        return nn.Sequential(OrderedDict(frozen=frozen, network=network))
    return _Detecting(frozen, network, detector)


def read(frozen: nn.Module, *parts: nn.Module | None) -> tuple[int, ...]:
    """Return the numbers of those of several backbones that networks or detectors need."""
    have = _numbers(frozen)
    needed = {number for part in parts if part is not None for number in _needed(have, part)}
    return tuple(number for number in have if number in needed)


def trains_backbone(network: nn.Module | None) -> bool:
    """Return whether a network, or a member of it, is a fine-tuned backbone."""
    return isinstance(network, FineTuned) or any(map(trains_backbone, getattr(network, "members", ())))


def _needed(have: tuple[int, ...], part: nn.Module) -> tuple[int, ...]:
    if isinstance(part, Ensemble):
        return tuple(number for member in part.members for number in _needed(have, member))
    return (_numbers(part.backbone) or have) if isinstance(part, FineTuned) else have


def _numbers(module: nn.Module) -> tuple[int, ...]:
    inner = module.module if isinstance(module, Frozen) else module
    return inner.numbers if isinstance(inner, Towers) else ()


def _whole(frozen: nn.Module, network: FineTuned) -> nn.Module:
    """Return a fine-tuned backbone from pictures on: with the frozen blocks in front, if it reads activations."""
    numbers = _numbers(network.backbone)
    if numbers != _numbers(frozen) and isinstance(frozen, Frozen) and isinstance(frozen.module, Towers):
        frozen = Frozen(frozen.module.part(numbers))
    backbone = copy.deepcopy(frozen)
    tuned = {name: value.contiguous() for name, value in network.backbone.state_dict().items()}
    backbone.load_state_dict({**frozen.state_dict(), **tuned})
    return backbone


class _Detecting(nn.Module):
    def __init__(self, frozen: nn.Module, network: nn.Module, detector: nn.Module) -> None:
        super().__init__()
        self.frozen, self.network, self.detector = frozen, network, detector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.frozen(image)
        return self.network(features), *self.detector(features)


class _EnsembleGraph(nn.Module):
    """Several networks; the features of the published backbones are computed once for all that read them.

    A detector reads what the first network reads.
    """

    def __init__(self, frozen: nn.Module, network: Ensemble, detector: nn.Module | None) -> None:
        super().__init__()
        tuned = [isinstance(member, FineTuned) for member in network.members]
        self._tuned, self._combine = tuned, network.combine
        self.frozen = None if all(tuned) else frozen
        members = network.members
        self.backbones = nn.ModuleList(
            [_whole(frozen, member) if isinstance(member, FineTuned) else nn.Identity() for member in members]
        )
        heads = [member.head if isinstance(member, FineTuned) else member for member in members]
        self.network = nn.ModuleList(heads)
        self.detector = detector

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        published = None if self.frozen is None else self.frozen(image)
        features = [
            backbone(image) if tuned else published for tuned, backbone in zip(self._tuned, self.backbones, strict=True)
        ]
        logits = self._combine([head(each) for head, each in zip(self.network, features, strict=True)])
        return logits if self.detector is None else (logits, *self.detector(features[0]))
