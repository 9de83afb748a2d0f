"""The search over train.search.space: its trials, and the best of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flowerml.core.errors import FlowermlError
from flowerml.search.progress import Tally
from flowerml.search.sampling import Sampler
from flowerml.search.series import Series
from flowerml.search.trial import Trial, leading

if TYPE_CHECKING:
    from flowerml.config.params import Train


class Search:
    """The trials of one search, as `Series` asks for them; a source of trainings: see `flowerml.search.trials.Source`.

    With `head_trials` the first ones train a head alone, which takes seconds, as `section.head_alone()` says. The
    others take what suited the best of these, search the rest of the space, and are not pruned: the best fine-tuning
    is often behind at first (valid 0.867 after its first epoch, 0.982 after its last). They begin when all heads have
    finished.
    """

    def __init__(self, section: "Train") -> None:
        self.section = section
        self.trials: list[Trial] = []
        self.leaders: list[Trial] = []
        """The best of the finished trials, as many as there may be in an ensemble, the best first."""
        self._tally = Tally()
        self._heads: Series | None = None
        if section.search.head_trials:
            heads = section.head_alone()
            assert heads is not None, "the section's schema permits head_trials"
            self._heads = Series(Sampler(heads))
            self._rest = Series(Sampler(_after_heads(section, section)))
            self._begun = False
        else:
            self._rest = Series(Sampler(section))
            self._begun = True

    def __iter__(self) -> Iterator[Trial]:
        """Yield the trials one after the other; each has finished when the next is asked for."""
        while (trial := self.ask()) is not None:
            yield trial
            self.finish(trial)

    def ask(self) -> Trial | None:
        """Return the next trial; None while others have to finish first, and after the last one."""
        if not self._begun:
            assert self._heads is not None, "a search without head_trials begins with the rest"
            if self._heads.is_finished:
                best = self.leaders[0].section if self.leaders else self.section
                self._rest, self._begun = Series(Sampler(_after_heads(self.section, best))), True
        series = self._rest if self._begun else self._heads
        assert series is not None
        trial = series.ask(len(self.trials), kind="trial" if self._begun else "head")
        if trial is not None:
            self.trials.append(trial)
            self._tally.begin(trial)
        return trial

    def finish(self, trial: Trial) -> None:
        """Take note that a trial has ended."""
        trial.finished = True
        self.leaders = self.kept_with(trial)
        self._tally.finish(trial, self.planned(trial.kind)[1])

    def kept_with(self, trial: Trial) -> list[Trial]:
        """Return the trials whose weights are kept once this one has ended, the best first."""
        return leading(self.leaders, trial, count=self.section.ensemble)

    @property
    def searched(self) -> list[str]:
        """The names of the parameters that are searched."""
        spaces = [series.sampler.section.search.space for series in self._series]
        return list(dict.fromkeys(name for space in [self.section.search.space, *spaces] for name in space))

    @property
    def count(self) -> int:
        """The number of trials."""
        return sum(series.sampler.count for series in self._series)

    @property
    def plan(self) -> list[str]:
        """What the points depend on besides the section and their numbers: see `Sampler.plan`."""
        return [series.sampler.plan for series in self._series]

    @property
    def at_once(self) -> int:
        """The number of trials that may run at the same time."""
        return max(series.at_once for series in self._series)

    def planned(self, kind: str) -> tuple[int, int]:
        """Return the number of trials of a kind, and that of epochs of the longest one, were it not stopped early."""
        series = self._heads if kind == "head" else self._rest
        assert series is not None, "there are trials of this kind"
        return series.sampler.count, series.sampler.planned_epochs

    @property
    def total_epochs(self) -> int:
        """The number of epochs of all trials, if none is pruned or stopped early."""
        return sum(series.sampler.count * series.sampler.planned_epochs for series in self._series)

    def done_epochs(self, kind: str | None = None) -> int:
        """Return the number of epochs that are done, of all trials or of those of a kind."""
        return self._tally.epochs(kind)

    @property
    def best(self) -> Trial:
        """The complete trial with the best epoch; raises FlowermlError if no trial is complete."""
        if not self.leaders:
            reasons = "; ".join(dict.fromkeys(trial.reason for trial in self.trials))
            raise FlowermlError(f"no trial of the search completed: {reasons}")
        return self.leaders[0]

    @property
    def _series(self) -> list[Series]:
        return [self._rest] if self._heads is None else [self._heads, self._rest]


def _after_heads(section: "Train", head: "Train") -> "Train":
    """Return the section of the trials after those of the head alone, with the choices of the best `head`."""
    chosen = head.head_choices()
    search = section.search.model_dump()
    search |= {
        "trials": section.search.trials - section.search.head_trials,
        "head_trials": 0,
        "prune": False,
        "space": {name: values for name, values in search["space"].items() if name not in chosen},
    }
    return section.with_values({**chosen, "search": search})
