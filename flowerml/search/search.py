"""Run a search: train and record every trial, keep the best network, resume after an interruption."""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from flowerml.search.checkpoint import Checkpoint
from flowerml.search.driver import InWorkers, Staff, Workers
from flowerml.search.ensemble import greedy_counts, greedy_soup, score
from flowerml.search.networks import Gain, Member, Networks, Repeats, Winner, described
from flowerml.search.progress import Bar, ShowProgress, best_so_far
from flowerml.search.retraining import Retraining, combined, repeats_score
from flowerml.search.study import Search
from flowerml.search.trial import Trial
from flowerml.search.trials import InProcess, Trials
from flowerml.tracking import runs, system

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from torch import Tensor, nn

    from flowerml.config.params import Train
    from flowerml.search.networks import Weights
    from flowerml.search.trials import Runner
    from flowerml.tracking.lineage import Dataset

RUN = "search"


@dataclass(frozen=True)
class SearchResult:
    """A search with its winner and the repeats of this; `gain` is that of an ensemble, if one was wanted."""

    search: Search
    winner: Winner
    repeats: Repeats
    gain: Gain | None
    checkpoint: Checkpoint

    def scores(self) -> dict[str, float]:
        """Return the numbers of search.json: the best trial's score, and those of an ensemble."""
        return {**self.search.best.score(), **(self.gain.metrics() if self.gain else {})}


@dataclass(frozen=True)
class SearchStorage:
    """Where a search is recorded: MLflow experiment, folder of the checkpoint, and the fingerprint to resume under."""

    experiment: str
    checkpoint: Path
    fingerprint: str

    def finish(self, result: SearchResult) -> None:
        """Mark the search as finished: the same command starts a new one, and one with more trials extends it.

        Call it once the result is saved.
        """
        ids = runs.finish_resumable(self.experiment, RUN)
        search = result.search
        children = {trial.name: ids[f"{RUN}/{trial.name}"] for trial in search.trials if f"{RUN}/{trial.name}" in ids}
        result.checkpoint.close(search.count, search.leaders, run=ids.get(RUN), runs=children)


def run_search(
    section: "Train",
    networks: Networks,
    storage: SearchStorage,
    *,
    parameters: "Callable[[Trial], dict[str, Any]]",
    tags: Mapping[str, str],
    datasets: "Iterable[Dataset]",
    weights: "Weights | None" = None,
    show_progress: ShowProgress = Bar,
    workers: Workers | None = None,
) -> SearchResult:
    """Train every trial of section.search, then what the section wants of the winner: in this process, or in workers.

    Every trial is an MLflow run under one parent, which gets the winner's parameters and score. A trial whose loss is
    not finite ends as FAILED with the reason, and the search continues. Raises FlowermlError if no trial completes, and
    ModelError if `weights` do not fit the networks.

    The search is checkpointed as it runs. After any interruption it resumes in the same MLflow runs, and yields the
    same network bit for bit, also with other workers. Call `storage.finish(result)` once the result is saved.
    """
    search = Search(section)
    checkpoint = Checkpoint(storage.checkpoint, storage.fingerprint, plan=search.plan, trials=search.count)
    staff = Staff(workers) if workers is not None else None
    if staff is not None:  # now, as their start takes seconds, and so does that of a run
        staff.start(min(search.at_once, search.count - len(checkpoint.records)))
    # Under another plan trials of the same number have other parameters, which a run that is resumed would not log.
    record = runs.run(storage.experiment, RUN, tags, resume=f"{storage.fingerprint} {search.plan}")
    with record as parent, system.sampled(parent):
        for dataset in datasets:
            parent.dataset(**vars(dataset))
        if checkpoint.notice:
            tqdm.write(f"{storage.experiment}: {checkpoint.notice}", file=sys.stderr)
        if checkpoint.earlier is not None:
            parent.tags({"extends": checkpoint.earlier.run or "a search that MLflow does not know"})
        if workers is not None and search.at_once < min(workers.pool.size, search.count):
            tqdm.write(_waiting(search.at_once, workers.pool.size), file=sys.stderr)
        trials = Trials(networks, parameters, parent, tags, checkpoint, weights)
        if checkpoint.mixed:
            trials.note_mixed()
        runner: Runner = InProcess(trials) if staff is None else InWorkers(trials, staff)
        with show_progress(search) as progress:
            network = runner.run(search, progress)
        winner, gain = _winner(search, trials, networks, network)
        _record_winner(parent, search, winner, parameters, checkpoint)
        if gain is not None:
            _report_gain(parent, winner, gain)
        retraining = Retraining(search, trials, networks, winner.members, winner.by)
        repeats = Repeats()
        if retraining.count:
            with show_progress(retraining) as progress:
                runner.run(retraining, progress)
            winner, repeats = retraining.result(winner)
            parent.metrics(repeats_score(retraining.scores()))
        return SearchResult(search, winner, repeats, gain, checkpoint)


def _waiting(at_once: int, workers: int) -> str:
    """Return why not all workers are of use in a search."""
    return (
        f"train.search.ahead: {at_once} of {workers} workers search at the same time; {2 * workers} would keep "
        "all busy (that is another search, and the same one for any number of workers)"
    )


def _winner(
    search: Search, trials: Trials, networks: Networks, network: "nn.Module | None"
) -> tuple[Winner, Gain | None]:
    """Return the network of the best trial, or that of an ensemble with what it gains.

    Raises FlowermlError if no trial is complete.
    """
    section, best = search.section, search.best
    pool = [Member(trial, 1) for trial in search.leaders]
    if section.ensemble > len(pool):
        complete = "one trial has" if len(pool) == 1 else f"{len(pool)} trials have"
        tqdm.write(f"ensemble: only {complete} completed", file=sys.stderr)
    if len(pool) == 1:
        return Winner(
            best, network if network is not None else trials.load(best), (pool[0],), section.ensemble_by
        ), None
    targets = networks.valid_targets()
    loaded = [trials.load(member.trial) for member in pool]
    if section.ensemble_by == "soup":
        counts, reached, alone = _soup(loaded, networks, targets)
    else:
        logits = [networks.predict_valid(each) for each in loaded]
        counts, reached, alone = greedy_counts(logits, targets)
    members = tuple(
        replace(member, count=count) for member, count in zip(pool, _lowest_terms(counts), strict=True) if count
    )
    whole = combined(members, trials, networks, section.ensemble_by)
    gain = Gain(reached, alone, networks.cost(whole), networks.cost(trials.load(best)))
    left_out = [member.trial.name for member, count in zip(pool, counts, strict=True) if not count]
    return Winner(best, whole, members, section.ensemble_by, left_out=tuple(left_out)), gain


def _soup(loaded: "list[nn.Module]", networks: Networks, targets: "Tensor") -> tuple[list[int], float, float]:
    states = [{name: tensor.clone() for name, tensor in network.state_dict().items()} for network in loaded]

    def evaluate(state: "Mapping[str, Tensor]") -> float:
        loaded[0].load_state_dict(state)
        return score(networks.predict_valid(loaded[0]).softmax(1), targets)[0]

    return greedy_soup(states, evaluate)


def _lowest_terms(counts: list[int]) -> list[int]:
    divisor = math.gcd(*counts)
    return [count // divisor for count in counts]


def _record_winner(
    parent: runs.Run,
    search: Search,
    winner: Winner,
    parameters: "Callable[[Trial], dict[str, Any]]",
    checkpoint: Checkpoint,
) -> None:
    best = search.best
    parent.params(parameters(best))
    parent.metrics(best.score())
    earlier = checkpoint.earlier.trials if checkpoint.earlier else {}
    run = earlier.get(best.name) or parent.reference(best.name)
    link = f"[{best.name}](#/experiments/{parent.experiment_id}/runs/{run})"
    note = f"The best is {link}, with {best_so_far(search)}."
    parent.tags({"best_trial": best.number, "best_run_id": run, "mlflow.note.content": note})
    if len(winner.members) > 1:
        parent.tags({"ensemble": f"{winner.by} of {described(winner.members)}"})


def _report_gain(parent: runs.Run, winner: Winner, gain: Gain) -> None:
    """Record what an ensemble gains and costs, and print it."""
    parent.metrics({**gain.metrics(), **gain.timings()})
    kind = "a soup" if winner.by == "soup" else "the mean of the probabilities"
    what = (
        f"{kind} of {described(winner.members)}" if len(winner.members) > 1 else "no other network helps the best one"
    )
    if winner.left_out:
        what += f", without {', '.join(winner.left_out)}"
    tqdm.write(
        f"ensemble: {what}; valid accuracy {gain.accuracy:.4f}, the best alone {gain.accuracy_alone:.4f}; "
        f"{gain.cost.milliseconds:.1f} ms an input and {gain.cost.bytes / 1e6:.1f} MB, "
        f"alone {gain.cost_alone.milliseconds:.1f} ms and {gain.cost_alone.bytes / 1e6:.1f} MB",
        file=sys.stderr,
    )
