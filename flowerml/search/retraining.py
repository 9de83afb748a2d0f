"""The trainings after a search: the winner once more on train and valid, and its recipe with other seeds.

They are trials of their own, recorded and resumed as those of the search. One that fails leaves what there was before,
and a warning.
"""

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from flowerml.search.ensemble import averaged
from flowerml.search.networks import Member, Networks, Repeats, Winner
from flowerml.search.progress import Tally
from flowerml.search.pruning import Stop
from flowerml.search.study import Search
from flowerml.search.trial import Trial
from flowerml.search.trials import Trials

if TYPE_CHECKING:
    from torch import nn

    from flowerml.config.params import Train

ANNEALED = ("cosine", "one_cycle")


@dataclass(eq=False)
class _Round:
    """One training of all members, of a kind: a repeat, or a refit of the winner or of the repeat `of`."""

    kind: str
    number: int  # 1 is the winner, 2 its first repeat
    members: tuple[Member, ...]
    of: "_Round | None" = None
    trials: list[Trial] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether a training of the round has failed, or one that it builds on: the others are not begun."""
        failed = any(trial.finished and trial.state != "complete" for trial in self.trials)
        return failed or (self.of is not None and self.of.failed)

    @property
    def complete(self) -> bool:
        """Whether all trainings have succeeded."""
        ended = len(self.trials) == len(self.members) and all(trial.finished for trial in self.trials)
        return ended and not self.failed

    @property
    def next(self) -> Member | None:
        """The member to train next; None if there is none, or if it has to wait for the round this builds on."""
        if self.failed or len(self.trials) == len(self.members) or (self.of is not None and not self.of.complete):
            return None
        return self.members[len(self.trials)]

    def trained(self) -> tuple[Member, ...] | None:
        """Return the members with these trainings; None if one has failed."""
        if not self.complete:
            return None
        return tuple(replace(member, trial=trial) for member, trial in zip(self.members, self.trials, strict=True))


class Retraining:
    """The plan of all trainings after a search, as a progress display sees it, and as a source of trainings.

    They do not depend on each other, but for the refits of a repeat: see `flowerml.search.trials.Source`.
    """

    def __init__(self, search: Search, trials: Trials, networks: Networks, members: Sequence[Member], by: str) -> None:
        self._section, self._first = search.section, len(search.trials)
        self._runner, self._networks = trials, networks
        self._members, self._by = tuple(members), by
        # Also those that an ensemble leaves out: a search that is resumed weighs all of them again.
        self._kept = [*search.leaders]
        self._epochs = max(member.trial.section.planned_epochs for member in members)
        seeds = [member.trial.section.seed for member in members]
        self._step = 1 + max(seeds) - min(seeds)  # so that no member of a repeat has the seed of one of another
        self._rounds = [*self._plan()]
        self._tally = Tally()
        self.trials: list[Trial] = []

    def _plan(self) -> Iterator[_Round]:
        if self._section.refit:
            yield _Round("refit", 1, self._members)
        for number in range(2, self._section.repeats + 1):
            repeat = _Round("repeat", number, self._members)
            yield repeat
            if self._section.refit:
                yield _Round("refit", number, self._members, of=repeat)

    @property
    def count(self) -> int:
        """The number of trainings."""
        return sum(self.planned(kind)[0] for kind in ("repeat", "refit"))

    def planned(self, kind: str) -> tuple[int, int]:
        """Return the number of trainings of a kind, and the epochs of the longest."""
        return sum(len(each.members) for each in self._rounds if each.kind == kind), self._epochs

    @property
    def total_epochs(self) -> int:
        """The number of epochs of all trainings."""
        return self.count * self._epochs

    def done_epochs(self, kind: str | None = None) -> int:
        """Return the number of epochs that are done, of all trainings or of those of a kind."""
        return self._tally.epochs(kind)

    @property
    def best(self) -> Trial:
        """The winner of the search."""
        return self._members[0].trial

    def scores(self) -> list[float]:
        """Return the valid accuracies of the winner's trial and of its repeats, where these are of single networks."""
        if len(self._members) > 1:
            return []
        repeats = [trial for each in self._rounds if each.kind == "repeat" for trial in each.trials]
        return [
            trial.best.valid_accuracy for trial in (self.best, *repeats) if trial.best and trial.state == "complete"
        ]

    def ask(self) -> Trial | None:
        """Return the next training; None while others have to finish first, and after the last one."""
        for each in self._rounds:
            if member := each.next:
                trial = self._repeat(each, member) if each.kind == "repeat" else self._refit(each, member)
                each.trials.append(trial)
                self.trials.append(trial)
                self._tally.begin(trial)
                return trial
        return None

    def finish(self, trial: Trial) -> None:
        """Take note that a training has ended; warn of one that failed."""
        each = next(each for each in self._rounds if trial in each.trials)
        if trial.state != "complete" and not each.failed:
            left = "the network of before the refit is kept"
            if each.kind == "repeat":
                left = "mean and spread are those of the other repeats"
            tqdm.write(f"warning: {trial.name}: {trial.reason}; {left}", file=sys.stderr)
        trial.finished = True
        self._kept = self.kept_with(trial)
        self._tally.finish(trial, self._epochs)

    def kept_with(self, trial: Trial) -> list[Trial]:
        """Return the trainings whose weights are kept once this one has ended: all."""
        return [*self._kept, trial] if trial.state == "complete" else self._kept

    def result(self, winner: Winner) -> tuple[Winner, Repeats]:
        """Return the winner, refitted where that is wanted, and the repeats, once all trainings have ended."""
        refits = {each.number: each.trained() for each in self._rounds if each.kind == "refit"}
        made: dict[int, Callable[[], Winner]] = {}
        for each in self._rounds:
            if each.kind == "repeat" and (members := each.trained()):
                seed = winner.trial.section.seed + (each.number - 1) * self._step
                made[seed] = partial(self._load, members, refits.get(each.number))
        refitted = refits.get(1)
        return replace(winner, refitted=self._network(refitted) if refitted else None), Repeats(
            tuple(made), tuple(made.values())
        )

    def _repeat(self, each: _Round, member: Member) -> Trial:
        section = member.trial.section
        seed = section.seed + (each.number - 1) * self._step
        name = f"repeat {each.number}" + self._of(member)
        return self._trial(each, member, section.model_copy(update={"seed": seed}), name)

    def _refit(self, each: _Round, member: Member) -> Trial:
        trained = member.trial if each.of is None else each.of.trials[len(each.trials)]
        best = trained.best
        assert best is not None, "a complete trial has an epoch"
        name = ("" if each.of is None else f"repeat {each.number} ") + "refit" + self._of(member)
        return self._trial(each, member, trained.section.refitted(best.chosen), name, last=_last_epoch(trained))

    def _trial(self, each: _Round, member: Member, section: "Train", name: str, last: int | None = None) -> Trial:
        return Trial(
            self._first + len(self.trials),
            section,
            Stop(last=last),
            kind=each.kind,
            position=sum(trial.kind == each.kind for trial in self.trials),
            name=name,
            id=f"{each.kind}-of-trial-{member.trial.number}-seed-{section.seed}",
        )

    def _of(self, member: Member) -> str:
        """Return which trial is trained again, where there are several."""
        return f" of {member.trial.name}" if len(self._members) > 1 else ""

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
