"""What a search needs of a task, bound to its training data; and the networks that a search results in."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from flowerml.core.display import one_line, printable
from flowerml.core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flowerml.config.params import Train
    from flowerml.engine.fit import Training
    from flowerml.search.trial import Trial

Weights = Mapping[str, "Tensor"]


class Builder(Protocol):
    """The networks of a task on its training data: all that a worker needs of a task."""

    def build(self, section: "Train") -> "tuple[nn.Module, Training]":
        """Return a new network and the iteration that trains it on train."""

    def build_refit(self, section: "Train") -> "tuple[nn.Module, Training]":
        """Return a new network and the iteration that trains it on train and valid."""


class Networks(Builder, Protocol):
    """The networks of a task, and what the search makes of those that are trained: see `Trainable` in tasks/base.py."""

    def predict_valid(self, network: "nn.Module") -> "Tensor":
        """Return the logits of the validation examples, [N, C]."""

    def valid_targets(self) -> "Tensor":
        """Return their class indices, [N]."""

    def combined(self, networks: "Sequence[nn.Module]", weights: Sequence[float]) -> "nn.Module":
        """Return a network that answers with the weighted mean of the probabilities of others."""

    def cost(self, network: "nn.Module") -> "Cost":
        """Return what a network costs where it is served."""


@dataclass(frozen=True)
class Cost:
    """What a saved network costs: milliseconds for one input on one core, and bytes of its graph."""

    milliseconds: float
    bytes: int


@dataclass(frozen=True)
class Member:
    """A trained network of an ensemble: its trial, and how often it counts."""

    trial: "Trial"
    count: int


@dataclass(frozen=True)
class Gain:
    """What an ensemble gains on valid over the best trial alone, and the cost of both."""

    accuracy: float
    accuracy_alone: float
    cost: Cost
    cost_alone: Cost

    def metrics(self) -> dict[str, float]:
        """Return the numbers of search.json, which are the same in each run."""
        return {
            "ensemble_valid_accuracy": self.accuracy,
            "ensemble_megabytes": round(self.cost.bytes / 1e6, 2),
            "alone_valid_accuracy": self.accuracy_alone,
            "alone_megabytes": round(self.cost_alone.bytes / 1e6, 2),
        }

    def timings(self) -> dict[str, float]:
        """Return what was measured with a clock, which MLflow alone records."""
        return {
            "ensemble_milliseconds": round(self.cost.milliseconds, 2),
            "alone_milliseconds": round(self.cost_alone.milliseconds, 2),
        }


@dataclass(frozen=True)
class Winner:
    """The network of a recipe: that of the best trial, or of an ensemble of several.

    `refitted` is the same recipe trained on train and valid, which is then the one to save; None where there is no
    refit, or where it failed. `members` are several where networks were combined `by` their probabilities or as a soup;
    `left_out` are the trials that would not have helped.
    """

    trial: "Trial"
    network: "nn.Module"
    members: tuple[Member, ...]
    by: str
    refitted: "nn.Module | None" = None
    left_out: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return what its classifier records of this, as plain data; nothing for the network of a single trial."""
        record: dict[str, Any] = {}
        if len(self.members) > 1:
            members = [{"trial": member.trial.number, "count": member.count} for member in self.members]
            record["ensemble"] = {"by": self.by, "members": members}
        if self.refitted is not None:
            record["refit"] = "train and valid"
        return record


@dataclass(frozen=True)
class Repeats:
    """Trainings of the winner's recipe with other seeds: their winners are made as they are needed, one at a time."""

    seeds: tuple[int, ...] = ()
    makers: tuple[Callable[[], Winner], ...] = ()

    def __iter__(self) -> Iterator[Winner]:
        return (make() for make in self.makers)

    def __len__(self) -> int:
        return len(self.makers)


def started(builder: Builder, kind: str, section: "Train", weights: Weights | None) -> "tuple[nn.Module, Training]":
    """Return a new network and its training, of which kind a trial is; with `weights` it starts from these.

    Raises ModelError if they do not fit.
    """
    build = builder.build_refit if kind == "refit" else builder.build
    if weights is None:
        return build(section)
    try:
        network, training = build(section)
    except (RuntimeError, MemoryError) as error:  # the sizes are those that a stranger's classifier names
        raise ModelError(
            f"the network of the starting weights cannot be made ({printable(one_line(error), 200)})"
        ) from None
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ModelError(
            "the starting weights belong to a network of other sizes; keep the sizes it was trained with"
        ) from None
    return network, training


def described(members: Iterable[Member]) -> str:
    """Return which trials answer together, and how often each counts, in a few words."""
    return ", ".join(
        f"{member.trial.name}{f' ({member.count} times)' if member.count > 1 else ''}" for member in members
    )
