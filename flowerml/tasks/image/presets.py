"""Presets for pictures: a head on frozen features, the last blocks fine-tuned, or several networks.

The values are those that did best on valid in trials on the Oxford flowers and others, with the embedded networks: see
docs/how-to/fine-tune.md and benchmarks/finetune.py.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from PIL import Image

from flowerml.core.errors import ParamsError
from flowerml.tasks.image.sections import HEAD, HEAD_SPACE
from flowerml.tasks.image.timing import REFERENCE, Machine, Work
from flowerml.tasks.records import Choice, Situation

BACKBONE = REFERENCE
# Networks that answer together, in this order: the two err differently, and the third is the weakest and slowest.
SEVERAL = (BACKBONE, "tf_efficientnet_lite1", "tf_efficientnet_lite2")
SEVERAL_SIZE = 240
HINT = (
    "--preset balanced also trains the last blocks of the network: minutes instead of seconds, and about half of the "
    "mistakes"
)
MANY = 3000  # training pictures from which on five epochs are enough, at a smaller size
EPOCHS = {"few": 8, "many": 5}
FEWEST_EPOCHS, MOST_EPOCHS = 3, 10
# Share of the size answered at that is trained at with many pictures: 192 for 224. In random crops objects are larger
# by about as much (Touvron et al., 2019).
SMALLER = 0.87
SIZES = {BACKBONE: 224, "tf_efficientnet_lite1": 240, "tf_efficientnet_lite2": 260}
SMALL = 160  # pixels of the short side of most pictures up to which they are not enlarged to the network's size
SMALLEST_SIZE = 128  # pixels; a network sees too little in fewer, whatever the pictures are
TRAINED_SHARE = 4 / 7  # of a network's blocks
WORTH_A_REFIT = 0.2  # validation pictures, as a share of the training pictures


def preset(name: str, situation: Situation) -> list[Choice]:
    """Return the parameters of a preset with their reasons; raises ParamsError."""
    given = situation.given
    if name != "fast" and given.get("encode.trainable_blocks") == 0:
        raise ParamsError(
            f"--preset: expected trained blocks in preset {name}, found encode.trainable_blocks 0; choose preset fast"
        )
    if name == "fast":
        if situation.minutes is not None:
            raise ParamsError("--minutes: expected balanced or best, which can use them; preset fast takes seconds")
        return _frozen("frozen features, computed once")
    plan = Plan.of(name, situation)
    if plan.epochs < FEWEST_EPOCHS:
        return _frozen(
            f"{situation.minutes:g} minutes are not enough to fine-tune on {plan.pictures:,} pictures: it takes about "
            f"{math.ceil(plan.needed / 60)} here"
        )
    return [*plan.encode(), *plan.train()]


def _frozen(reason: str) -> list[Choice]:
    """Return a head on frozen features."""
    head = {**{name: value for name, value in HEAD.items() if name != "fine_tune"}, "hidden_units": []}
    return [
        Choice("encode.backbone", BACKBONE, "embedded: nothing is downloaded"),
        Choice("encode.weights", "imagenet", "pretrained"),
        Choice("encode.size", None, "that of the network"),
        Choice("encode.trainable_blocks", 0, reason),
        Choice("encode.cache", None, "only features"),
        Choice("encode.views", 1, "augmented views of frozen features gain little"),
        *(Choice(f"train.{name}", value, "suits a head") for name, value in head.items()),
        Choice("train.threads", None, "one for a head, which is no faster with more"),
        *_single("the best head", trials=1, space=HEAD_SPACE),
    ]


def _single(what: str, *, trials: int, space: Mapping[str, Any]) -> Iterator[Choice]:
    """Yield the parameters of a search whose result is one network."""
    yield Choice("train.ensemble", 1, what)
    yield Choice("train.search.trials", trials, "the values above; more search around them")
    yield Choice("train.search.prune", False, "early epochs say little of later ones")
    yield Choice("train.search.head_trials", 0, "the head starts from a probe")
    yield Choice("train.search.space", dict(space), "for more trials")


@dataclass(frozen=True)
class Plan:
    """What fits into the time: epochs, the size that is trained at, and the number of networks.

    `needed` are the seconds that it takes, about; without an epoch those of the smallest fine-tuning.
    """

    backbones: tuple[str, ...]
    blocks: int | str
    epochs: int
    smaller: bool
    side: int | None
    networks: int
    refit: bool
    precision: str
    pictures: int
    minutes: float | None
    given: Mapping[str, Any]
    needed: float = 0.0

    @classmethod
    def of(cls, name: str, situation: Situation, machine: Machine | None = None) -> "Plan":
        given, counts = situation.given, situation.counts
        backbones = _backbones(given, several=name == "best")
        few = counts["train"] < MANY
        small = None if "encode.size" in given else _side_of_small(situation.sample)
        plan = cls(
            backbones,
            given.get("encode.trainable_blocks", _blocks(backbones[0]) if small is None else "all"),
            EPOCHS["few" if few else "many"],
            not few and small is None,
            given.get("encode.size", small),
            max(2, len(_given_backbones(given))) if name == "best" else 1,
            name == "best" and counts["valid"] >= WORTH_A_REFIT * counts["train"],
            given.get("train.precision", _precision()),
            counts["train"],
            situation.minutes,
            given,
        )
        machine = machine or Machine.measured()
        if situation.minutes is not None:
            return plan.within(60 * situation.minutes, counts, machine)
        return replace(plan, needed=machine.seconds(plan.work, plan.epochs, counts))

    def within(self, seconds: float, counts: Mapping[str, int], machine: Machine) -> "Plan":
        """Return the plan for so many seconds: as many epochs as fit, up to MOST_EPOCHS.

        More time is better spent on other networks than on more epochs, less is saved on the size first.
        """
        options = [self]
        if self.networks > 1:
            more = [replace(self, networks=3)] if self.backbones == SEVERAL else []
            options = [*more, self, replace(self, refit=False)]
            options.append(replace(self, networks=1, refit=False))
        if not self.smaller and self.side is None and "train.size" not in self.given:
            options.append(replace(options[-1], smaller=True))
        for option in options:
            epochs = machine.epochs(option.work, seconds, counts)
            wanted = self.epochs if option.networks > self.networks else FEWEST_EPOCHS + (option is not options[-1])
            if epochs >= wanted:
                epochs = min(epochs, MOST_EPOCHS)
                return replace(option, epochs=epochs, needed=machine.seconds(option.work, epochs, counts))
        smallest = options[-1]
        return replace(smallest, epochs=0, needed=machine.seconds(smallest.work, FEWEST_EPOCHS, counts))

    @property
    def used(self) -> tuple[str, ...]:
        """The backbones of the networks."""
        return self.backbones[: self.networks]

    @property
    def answered(self) -> int | None:
        """The size that is answered at; None for that of a network that is not embedded."""
        if self.side is not None:
            return self.side
        return SEVERAL_SIZE if len(self.used) > 1 else SIZES.get(self.used[0])

    @property
    def size(self) -> int | None:
        """The size that is trained at; None for that which is answered at."""
        if "train.size" in self.given:
            size: int | None = self.given["train.size"]
            return size
        if not self.smaller or self.answered is None:
            return None
        return 16 * round(SMALLER * self.answered / 16)

    @property
    def work(self) -> Work:
        """What takes the time."""
        side = self.size or self.answered or 224
        backbones = self.used * (self.networks // len(self.used))
        return Work(backbones, side, self.blocks == "all", self.precision, self.refit)

    def encode(self) -> Iterator[Choice]:
        """Yield the parameters of `encode`."""
        several = len(self.used) > 1
        backbone = list(self.used) if several else self.used[0]
        yield Choice("encode.backbone", backbone, "embedded: nothing is downloaded")
        yield Choice("encode.weights", "imagenet", "pretrained")
        if self.side is not None:
            yield Choice("encode.size", self.side, "about that of most pictures")
        else:
            why = "one for all networks" if several else "the network's own"
            yield Choice("encode.size", SEVERAL_SIZE if several else None, why)
        why = "small pictures are unlike those of the pretraining" if self.blocks == "all" else "more are hardly better"
        yield Choice("encode.trainable_blocks", self.blocks, why)
        yield Choice("encode.cache", "pictures", "so that every epoch sees other crops")
        yield Choice("encode.views", 1, "augmented while training")

    def train(self) -> Iterator[Choice]:
        """Yield the parameters of `train`."""
        few = self.pictures < MANY
        why = f"what fits into {self.minutes:g} minutes" if self.minutes is not None else "more gained nothing"
        count = max(1, round(self.needed / 60))
        time = f"about {count} minute{'s' if count > 1 else ''} in all"
        yield Choice("train.epochs", self.epochs, f"{why}, with {self.pictures:,} training pictures: {time}")
        yield Choice("train.batch_size", 16 if few else 32, "more steps with few pictures" if few else "usual")
        yield Choice("train.learning_rate", 0.001, "of the head")
        yield Choice("train.backbone_learning_rate", 0.7, "of the last block, as a share")
        yield Choice("train.layer_decay", 0.8, "earlier blocks are more general")
        yield Choice("train.optimizer", "adamw", "usual for fine-tuning")
        yield Choice("train.weight_decay", 0.05, "usual for fine-tuning")
        yield Choice("train.schedule", "cosine", "after a short warmup")
        yield Choice("train.warmup_epochs", 0.4, "the optimizer's statistics start empty")
        yield Choice("train.label_smoothing", 0.1, "usual for fine-tuning")
        yield Choice("train.hidden_units", [], "a linear head, on features that are trained")
        yield Choice("train.dropout", 0.0, "gained nothing")
        yield Choice("train.fine_tune", True, "the last blocks with the head")
        yield Choice("train.head_start", "probe", "takes seconds, and spares the backbone large gradients")
        yield Choice("train.freeze_epochs", 0, "the head starts from a probe")
        yield Choice("train.batch_norm", "frozen", "batches are small")
        yield Choice("train.train_depthwise", None, "on a CPU they would take half of the time")
        yield Choice("train.ema", 0.0, "gained nothing")
        yield Choice("train.mixup", 0.0, "was worse in few epochs")
        yield Choice("train.clip_norm", None, "not needed")
        yield Choice("train.accumulate", 1, "not needed")
        yield Choice("train.patience", None, "the schedule runs to its end")
        fast = self.precision == "bfloat16"
        yield Choice("train.precision", self.precision, "faster here" if fast else "this CPU has no fast bfloat16")
        at = "as answered at" if self.size is None else "fast, and in random crops objects look larger"
        yield Choice("train.size", self.size, at)
        yield Choice("train.threads", None, "all cores")
        yield Choice("train.augment.smallest_crop", 0.4, "of the area")
        yield Choice("train.augment.flip", True, "most things may be mirrored")
        for name in ("vertical_flip", "rotation", "color", "erase", "randaugment"):
            value: Any = False if name == "vertical_flip" else 0.0
            yield Choice(f"train.augment.{name}", value, "gained nothing" if few else "not needed in few epochs")
        yield from self._search()

    def _search(self) -> Iterator[Choice]:
        why = "the validation pictures are as good to learn from" if self.refit else "would take as long again"
        yield Choice("train.refit", self.refit, why)
        if self.networks == 1:
            space = {
                "learning_rate": {"low": 0.0005, "high": 0.002, "log": True},
                "augment.smallest_crop": [0.25, 0.4, 0.6],
                "layer_decay": [0.7, 0.8, 0.9],
            }
            yield Choice("train.backbone", None, "there is one")
            yield from _single("a trial takes minutes", trials=1, space=space)
            return
        if len(self.used) > 1:
            yield Choice("train.backbone", self.used[0], "one network after the other")
            varied: dict[str, Any] = {"backbone": list(self.used)}
        else:
            yield Choice("train.backbone", None, "there is one")
            seed = self.given.get("train.seed", 0)
            yield Choice("train.seed", seed, "the first of several")
            varied = {"seed": [seed + number for number in range(self.networks)]}
        yield Choice("train.ensemble", self.networks, "networks that err differently are better together")
        yield Choice("train.ensemble_by", "probabilities", "they are of different shapes")
        yield Choice("train.search.trials", self.networks, "one for each network")
        yield Choice("train.search.prune", False, "early epochs say little of later ones")
        yield Choice("train.search.head_trials", 0, "the head starts from a probe")
        yield Choice("train.search.space", varied, "what the networks differ in")


def _backbones(given: Mapping[str, Any], *, several: bool) -> tuple[str, ...]:
    return _given_backbones(given) or (SEVERAL if several else (BACKBONE,))


def _given_backbones(given: Mapping[str, Any]) -> tuple[str, ...]:
    chosen = given.get("encode.backbone", ())
    return (chosen,) if isinstance(chosen, str) else tuple(chosen)


def _blocks(backbone: str) -> int | str:
    """Return how many of a backbone's last blocks to train; all where it has no sequence of blocks."""
    from flowerml.tasks.image.encoder.backbone import architecture, depth_of

    count = len(depth_of(architecture(backbone, crop=224).module).blocks)
    return max(1, round(TRAINED_SHARE * count)) if count else "all"


def _side_of_small(sample: Sequence[Any]) -> int | None:
    """Return a size for pictures of which most are much smaller than networks expect; None for others."""
    sides = []
    for raw in sample:
        with suppress(OSError, ValueError), Image.open(BytesIO(raw)) as picture:
            sides.append(min(picture.size))
    usual = statistics.median(sides) if sides else math.inf
    return None if usual > SMALL else max(SMALLEST_SIZE, 16 * round(usual / 16))


def _precision() -> str:
    from flowerml.engine.devices import fast_bfloat16

    return "bfloat16" if fast_bfloat16() else "float32"
