"""The median rule, compared with Optuna's."""

import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowerml.engine.fit import Epoch
from flowerml.search.pruning import TRIALS_BEFORE_PRUNING, Medians, Stop

ACCURACIES = st.lists(st.sampled_from([0.1, 0.2, 0.3, 1 / 3, 0.7, math.nan]), min_size=1, max_size=6)


def epochs(accuracies):
    return [Epoch(number, 1.0, 0.5, 1.0, each, 0.1, 0.1) for number, each in enumerate(accuracies, start=1)]


def pruned_by_optuna(earlier, accuracies, *, warmup):
    """Return after which epoch Optuna's MedianPruner ends a trial; None if after none."""
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.MedianPruner(TRIALS_BEFORE_PRUNING, n_warmup_steps=warmup)
    )
    for reported in [*earlier, accuracies]:
        trial, best = study.ask(), math.nan
        for number, accuracy in enumerate(reported, start=1):
            best = accuracy if math.isnan(best) or accuracy > best else best
            trial.report(best, number)
            if reported is accuracies and trial.should_prune():
                return number
        if reported is not accuracies:
            study.tell(trial, 1.0)
    return None


@given(st.lists(ACCURACIES, max_size=6), ACCURACIES, st.integers(0, 3))
def test_medians_prune_as_optuna_does(earlier, accuracies, warmup):
    medians = Medians(warmup)
    for each in earlier:
        medians.add(each)
    stop = Stop(medians=medians.snapshot())
    numbers = [n for n in range(1, len(accuracies) + 1) if stop.prunes(epochs(accuracies[:n]))]
    # Optuna also ends a trial without any accuracy where no other has one, of which no search of ours could tell.
    if not all(map(math.isnan, accuracies)):
        assert (numbers or [None])[0] == pruned_by_optuna(earlier, accuracies, warmup=warmup)


def test_snapshot_does_not_change():
    medians = Medians(0)
    for _ in range(3):
        medians.add([0.5])
    snapshot = medians.snapshot()
    medians.add([0.9])
    medians.add([0.9])
    medians.add([0.9])
    assert snapshot == {1: 0.5} and medians.snapshot() == {1: pytest.approx(0.7)}


def test_last_epoch_ends_without_pruning():
    stop = Stop(last=2)
    assert stop.ends(epochs([0.1, 0.2])) and not stop.prunes(epochs([0.1, 0.2])) and not stop.ends(epochs([0.1]))
