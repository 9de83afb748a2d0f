"""How often the 95 % intervals of `flowerml compare` hold the true difference, by simulation.

    .venv/bin/python benchmarks/coverage_of_intervals.py [--draws 1000] [--seed 0]

Each draw makes a test set of N examples of random difficulty, which both sides share in part, and networks whose seed
moves their accuracy (`spread`) and their answer to each example. The true difference is known: that of the recipes
where a side has repeats, that of the network itself where it has one. Columns: the interval of the accuracy; the same
over examples alone; percentiles of a bootstrap of examples and seeds; the interval of the loss. Where fewer than seven
examples are expected to be answered differently, intervals are wider than they need be: those cases come last.
"""

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit
from scipy.stats import norm

from flowerml.evaluation.comparison import PSEUDO_EXAMPLES, difference
from flowerml.evaluation.intervals import Interval

SHARED = 0.8  # of an example's difficulty is the same for both sides
INTERACTION = 0.5  # how much a seed moves the answer to an example, in units of the examples' difficulty
SHARPNESS = 3.0  # of probabilities, for the loss
RESAMPLES = 400
POINTS = np.polynomial.hermite_e.hermegauss(60)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """N examples, the networks of each side, their true accuracies, and how much a seed moves accuracy."""

    examples: int
    networks: tuple[int, int]
    accuracies: tuple[float, float]
    seeds: float

    def __str__(self) -> str:
        networks, accuracies = ("/".join(map(str, pair)) for pair in (self.networks, self.accuracies))
        return f"{self.examples:>6,} {networks:>6} {accuracies:>12} {self.seeds:>6}"


CASES = [
    Case(examples, networks, accuracies, seeds)
    for examples in (200, 819, 6149)
    for networks in ((1, 1), (3, 3), (5, 5), (2, 5), (3, 1))
    for accuracies in ((0.90, 0.85), (0.977, 0.956))
    for seeds in (0.0, 0.03, 0.1)
    if networks != (1, 1) or not seeds
]
FEW_DIFFER = [
    Case(examples, networks, accuracies, 0.0)
    for examples, accuracies in ((50, (0.95, 0.95)), (100, (0.98, 0.97)), (200, (0.99, 0.99)))
    for networks in ((1, 1), (3, 3))
]


@dataclass(frozen=True)
class Networks:
    """The margins [networks, N] of a side, and the true means of its hits and losses."""

    margins: Array
    accuracy: float
    loss: float

    @property
    def hits(self) -> Array:
        return (self.margins > 0).astype(np.float64)

    @property
    def losses(self) -> Array:
        return -np.asarray(log_expit(SHARPNESS * self.margins), dtype=np.float64)


def draw(case: Case, rng: np.random.Generator) -> tuple[Networks, Networks]:
    """Return both sides' networks on one test set."""
    shared = rng.standard_normal(case.examples)
    sides = []
    for count, accuracy in zip(case.networks, case.accuracies, strict=True):
        difficulty = math.sqrt(SHARED) * shared + math.sqrt(1 - SHARED) * rng.standard_normal(case.examples)
        seeds = case.seeds * rng.standard_normal(count)
        noise = INTERACTION * rng.standard_normal((count, case.examples))
        ease = float(norm.ppf(accuracy)) * math.sqrt(1 + case.seeds**2 + INTERACTION**2)
        margins = ease + difficulty + seeds[:, np.newaxis] + noise
        # One network is itself what is compared; several stand for their recipe.
        center, spread = (ease + seeds[0], 0.0) if count == 1 else (ease, case.seeds)
        sides.append(Networks(margins, *_truth(center, math.sqrt(1 + spread**2 + INTERACTION**2))))
    return sides[0], sides[1]


def simulate(case: Case, draws: int, rng: np.random.Generator, *, bootstrap: bool = False) -> dict[str, float]:
    """Return how often each interval holds the truth, how wide the first is, and how many examples differ."""
    covered: dict[str, list[float]] = {}
    for _ in range(draws):
        ours, theirs = draw(case, rng)
        truth = ours.accuracy - theirs.accuracy
        both = difference(ours.hits, theirs.hits, pseudo_examples=PSEUDO_EXAMPLES)
        alone = difference(*(side.hits.mean(axis=0, keepdims=True) for side in (ours, theirs)))
        loss = difference(ours.losses, theirs.losses)
        outcome = {
            "both": _holds(both.interval, truth),
            "examples alone": _holds(alone.interval, truth),
            "loss": _holds(loss.interval, ours.loss - theirs.loss),
            "width": both.interval.high - both.interval.low,
            "differing": float((ours.hits[0] != theirs.hits[0]).sum()),
        }
        if bootstrap:
            outcome["bootstrap"] = _holds(_bootstrap(ours.hits, theirs.hits, rng), truth)
        for name, value in outcome.items():
            covered.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in covered.items()}


def _truth(center: float, spread: float) -> tuple[float, float]:
    """Return the mean of hits and of losses over all examples, for margins of this normal distribution."""
    points, weights = POINTS
    losses = -log_expit(SHARPNESS * (center + spread * points))
    return float(norm.cdf(center / spread)), float(weights @ losses / weights.sum())


def _holds(interval: Interval, truth: float) -> float:
    return float(interval.low <= truth <= interval.high)


def _bootstrap(ours: Array, theirs: Array, rng: np.random.Generator) -> Interval:
    def shares(count: int) -> Array:
        return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count

    paired = shares(len(ours)) @ ours - shares(len(theirs)) @ theirs
    values = (paired * shares(ours.shape[1])).sum(axis=1)
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def main() -> None:
    """Print the table, and how often the intervals hold the truth at least and at most."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--bootstrap-draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, start = np.random.default_rng(options.seed), time.monotonic()
    columns = ("both", "examples alone", "bootstrap", "loss")
    print(f"{'N':>6} {'seeds':>6} {'accuracies':>12} {'spread':>6} | " + " ".join(f"{name:>14}" for name in columns))
    shares = []
    for case in (*CASES, *FEW_DIFFER):
        result = simulate(case, options.draws, rng)
        result["bootstrap"] = simulate(case, options.bootstrap_draws, rng, bootstrap=True)["bootstrap"]
        shares += [result["both"]] if case in CASES else []
        numbers = " ".join(f"{100 * result[name]:>13.1f}%" for name in columns)
        print(f"{case} | {numbers}   width {result['width']:.4f}, {result['differing']:.0f} differ", flush=True)
    low, high = 100 * min(shares), 100 * max(shares)
    print(f"both, without the last {len(FEW_DIFFER)}: {low:.1f} to {high:.1f} % ({time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    main()
