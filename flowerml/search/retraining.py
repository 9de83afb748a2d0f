"""The trainings after a search: the winner once more on train and valid, and its recipe with other seeds.

They are trials of their own, recorded and resumed as those of the search. One that fails leaves what there was before,
and a warning.
"""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

from flowerml.search.ensemble import averaged
from flowerml.search.networks import Member, Networks, Repeats, Winner
from flowerml.search.progress import Progress
from flowerml.search.study import Search, Trial, ranked
from flowerml.search.trials import Trials

if TYPE_CHECKING:
    from torch import nn

    from flowerml.config.params import Train

ANNEALED = ("cosine", "one_cycle")


class Retraining:
    """The plan and the run of all trainings after a search, as a progress display sees them."""

    def __init__(self, search: Search, trials: Trials, networks: Networks, members: Sequence[Member], by: str) -> None:
        self._section, self._first = search.section, len(search.trials)
        self._runner, self._networks = trials, networks
        self._members, self._by = tuple(members), by
        # Also those that an ensemble leaves out: a search that is resumed weighs all of them again.
        self._kept = {trial.number for trial in ranked(search.trials)[: self._section.ensemble]}
        self._epochs = max(member.trial.section.planned_epochs for member in members)
        self.trials: list[Trial] = []

    @property
    def count(self) -> int:
        """The number of trainings."""
        return sum(self.planned(kind)[0] for kind in ("repeat", "refit"))

    def planned(self, kind: str) -> tuple[int, int]:
        """Return the number of trainings of a kind, and the epochs of the longest."""
        repeats, members = self._section.repeats, len(self._members)
        count = (repeats - 1) * members if kind == "repeat" else repeats * members * self._section.refit
        return count, self._epochs

    @property
    def total_epochs(self) -> int:
        """The number of epochs of all trainings."""
        return self.count * self._epochs

    def epochs_before(self, number: int) -> int:
        """Return the number of epochs that were planned before the training of this number."""
        return max(0, number - self._first) * self._epochs

    @property
    def next_number(self) -> int:
        """The number that the next training gets."""
        return self._first + len(self.trials)

    @property
    def best(self) -> Trial:
        """The winner of the search."""
        return self._members[0].trial

    def with_progress(self, progress: Progress) -> Self:
        """Show the trainings on another display than the search's; return self."""
        self._runner = replace(self._runner, progress=progress)
        return self

    def scores(self) -> list[float]:
        """Return the valid accuracies of the winner's trial and of its repeats, where these are of single networks."""
        if len(self._members) > 1:
            return []
        repeats = [trial for trial in self.trials if trial.kind == "repeat"]
        return [
            trial.best.valid_accuracy for trial in (self.best, *repeats) if trial.best and trial.state == "complete"
        ]

    def run(self, winner: Winner) -> tuple[Winner, Repeats]:
        """Run all trainings; return the winner, refitted where that is wanted, and the repeats."""
        winner = self._refitted(winner, self._members, "")
        seeds = [member.trial.section.seed for member in self._members]
        step = 1 + max(seeds) - min(seeds)  # so that no member of a repeat has the seed of one of another
        made: dict[int, Callable[[], Winner]] = {}
        for number in range(2, self._section.repeats + 1):
            seed = (number - 1) * step
            if members := self._repeated(number, seed):
                refits = self._refits(members, f"repeat {number} ") if self._section.refit else None
                made[winner.trial.section.seed + seed] = partial(self._load, members, refits)
        return winner, Repeats(tuple(made), tuple(made.values()))

    def _repeated(self, number: int, seed: int) -> tuple[Member, ...]:
        """Train all members with other seeds; return none if one of them fails."""
        members = []
        for member in self._members:
            section = member.trial.section
            name = f"repeat {number}" + self._of(member)
            changed = section.model_copy(update={"seed": section.seed + seed})
            trial = self._train(self._runner, changed, "repeat", name)
            if trial.state != "complete":
                _warn(f"{name}: {trial.reason}; mean and spread are those of the other repeats")
                return ()
            members.append(replace(member, trial=trial))
        return tuple(members)

    def _refitted(self, winner: Winner, members: tuple[Member, ...], prefix: str) -> Winner:
        refits = self._refits(members, prefix) if self._section.refit else None
        return replace(winner, refitted=self._network(refits) if refits else None)

    def _refits(self, members: tuple[Member, ...], prefix: str) -> tuple[Member, ...] | None:
        """Train all members on train and valid; return None if one of them fails."""
        runner = replace(self._runner, build_network=self._networks.build_refit)
        refits = []
        for member, first in zip(members, self._members, strict=True):
            best = member.trial.best
            assert best is not None, "a complete trial has an epoch"
            section = member.trial.section.refitted(best.chosen)
            name = f"{prefix}refit" + self._of(first)
            trial = self._train(runner, section, "refit", name, last=_last_epoch(member.trial))
            if trial.state != "complete":
                _warn(f"{name}: {trial.reason}; the network of before the refit is kept")
                return None
            refits.append(replace(member, trial=trial))
        return tuple(refits)

    def _of(self, member: Member) -> str:
        """Return which trial is trained again, where there are several."""
        return f" of {member.trial.name}" if len(self._members) > 1 else ""

    def _train(self, runner: Trials, section: "Train", kind: str, name: str, last: int | None = None) -> Trial:
        """Train, or restore what an interrupted attempt trained, and keep its weights in the checkpoint."""
        position = sum(trial.kind == kind for trial in self.trials)
        trial = Trial(self.next_number, section, kind=kind, position=position, name=name, last=last)
        self.trials.append(trial)
        if not runner.restore(trial):
            network = runner.run(trial)
            complete = network is not None and trial.state == "complete"
            weights = network.state_dict() if network is not None and complete else None
            runner.checkpoint.finish(trial, weights, keep=self._kept)
        self._kept.add(trial.number)
        runner.progress.trial(self)
        return trial

    def _load(self, members: tuple[Member, ...], refits: tuple[Member, ...] | None) -> Winner:
        network = self._network(members)
        return Winner(members[0].trial, network, members, self._by, self._network(refits) if refits else None)

    def _network(self, members: Sequence[Member]) -> "nn.Module":
        return combined(members, self._runner, self._networks, self._by)


def combined(members: Sequence[Member], trials: Trials, networks: Networks, by: str) -> "nn.Module":
    """Return the network of finished trials whose weights are in the checkpoint; of several, combined."""
    loaded = [trials.load(member.trial) for member in members]
    if len(members) == 1:
        return loaded[0]
    if by == "soup":
        loaded[0].load_state_dict(averaged([network.state_dict() for network in loaded]))
        return loaded[0].eval()
    total = sum(member.count for member in members)
    return networks.combined(loaded, [member.count / total for member in members]).eval()


def repeats_score(accuracies: Sequence[float]) -> dict[str, float]:
    """Return mean and standard deviation of the valid accuracies of repeats; nothing for fewer than two.

    >>> repeats_score([0.5, 0.75])
    {'repeats_valid_accuracy_mean': 0.625, 'repeats_valid_accuracy_std': 0.1767766952966369}
    """
    if len(accuracies) < 2:
        return {}
    return {
        "repeats_valid_accuracy_mean": statistics.mean(accuracies),
        "repeats_valid_accuracy_std": statistics.stdev(accuracies),
    }


def _last_epoch(trial: Trial) -> int:
    """Return the epoch after which a refit ends, as nothing is left to choose the best by.

    Under an annealed learning rate that is the last one that was planned, as an earlier one stops while steps are
    large. Else, and where the training had stopped early, it is the epoch that was the best.
    """
    assert trial.best is not None, "a complete trial has an epoch"
    section = trial.section
    whole = len(trial.epochs) >= section.planned_epochs and section.schedule in ANNEALED
    return section.planned_epochs if whole else trial.best.number


def _warn(line: str) -> None:
    tqdm.write(f"warning: {line}", file=sys.stderr)
