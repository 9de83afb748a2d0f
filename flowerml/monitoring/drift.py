"""Drift: whether the inputs and answers of a log are distributed as those of the validation examples.

Each number of an example is tested alone (Kolmogorov-Smirnov), and so is each category (chi-square); one test looks at
all features together (the maximum mean discrepancy: Gretton et al., 2012, "A Kernel Two-Sample Test"). Holm's
correction bounds the chance of a false alarm in all tests together. After Rabanser et al. (2019), "Failing Loudly".

Not evidently (26 dependencies, telemetry), not alibi-detect (its licence forbids production), not nannyml (tables).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowerml.core.errors import DataError
from flowerml.evaluation import holm
from flowerml.monitoring import profile
from flowerml.monitoring.record import Record
from flowerml.monitoring.reference import Reference, Value

LEVEL = 0.02  # of all tests together; at 0.05 11 of 200 windows without a change had an alarm
MIN_RECORDS = 50  # distinct inputs; of fewer only the largest changes would be seen
MIN_VALUES = 20  # of a column, on either side: the asymptotic p-values are conservative below it
DRAWS = 4000  # permutations: the smallest p, 1/4001, stays below LEVEL after the correction for 80 tests
BLOCK = 250  # permutations after which a test that is far from significant ends
ENOUGH = 25  # permutations at least as extreme as the data, after which it ends
MMD_ROWS = 1000  # of either side: the time grows with the square (0.3 s for 1,000 and 500)

READABLE, TOGETHER = "readable", "all features together"
KOLMOGOROV_SMIRNOV, CHI_SQUARE, MMD = "Kolmogorov-Smirnov", "chi-square", "MMD"

Columns = Mapping[str, Sequence[Value]]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One test: of the column `name`, or of all features together.

    `statistic` is the largest gap between the shares below any value (Kolmogorov-Smirnov), chi-square, or the maximum
    mean discrepancy. `p` is its p-value, `corrected` with Holm's correction. `effect` is the size of the change by
    `measure`: "Cohen's d" (the difference of the means in standard deviations), "Cramér's V" (0 to 1) or "MMD".
    `reference` and `window` are the medians of a number, or the shares of the `category` that changed most.
    """

    name: str
    test: str
    statistic: float
    p: float
    corrected: float
    effect: float
    measure: str
    drifted: bool
    reference: float | None = None
    window: float | None = None
    category: str | None = None


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The tests of a window of the log, those with the smallest p-values first.

    `examples` counts the validation examples, `records` the records, `distinct` their different inputs, of which each
    is counted once, and `errors` the inputs that could not be read. `since` and `until` are seconds since 1970.
    """

    level: float
    examples: int
    records: int
    distinct: int
    errors: int
    since: float
    until: float
    comparisons: tuple[Comparison, ...]

    @property
    def drifted(self) -> bool:
        """Return whether any test is significant at the level of all tests together."""
        return any(comparison.drifted for comparison in self.comparisons)

    @property
    def smallest_p(self) -> float:
        """Return the smallest corrected p-value."""
        return min((comparison.corrected for comparison in self.comparisons), default=1.0)

    def to_json(self) -> dict[str, Any]:
        """Return plain data: {"drifted", "level", "records", …, "comparisons": [{"name", "p", …}, …]}."""
        return {"drifted": self.drifted, "smallest_p": self.smallest_p, **asdict(self)}


@dataclass(frozen=True)
class _Test:
    """A test before the correction."""

    name: str
    test: str
    statistic: float
    p: float
    effect: float
    measure: str
    reference: float | None = None
    window: float | None = None
    category: str | None = None


def compare(reference: Reference, records: Sequence[Record], *, level: float = LEVEL, seed: int = 0) -> Drift:
    """Return the tests of records, which should be of one version of the model, against its reference.

    An input that was sent several times counts once: the tests ask for independent examples. The same records and seed
    give the same p-values. Raises DataError for fewer than MIN_RECORDS distinct inputs, and for a reference of fewer
    than MIN_VALUES examples.
    """
    if reference.count < MIN_VALUES:
        raise DataError(
            f"expected a reference of at least {MIN_VALUES} validation examples, found {reference.count}; train with "
            "more of them (data.split)"
        )
    distinct = first_of_each_input(records)
    if len(distinct) < MIN_RECORDS:
        raise DataError(f"expected records of at least {MIN_RECORDS} distinct inputs, found {len(distinct):,}")
    window = columns_of(distinct, reference.features)
    generator = np.random.default_rng(seed)
    tests = [*_tests(reference, window, generator), _readable(reference.count, distinct, generator)]
    corrected = holm.corrected([test.p for test in tests])
    comparisons = [
        Comparison(**asdict(test), corrected=float(p), drifted=bool(p <= level))
        for test, p in zip(tests, corrected, strict=True)
    ]
    times = [record.time for record in records]
    return Drift(
        level=level,
        examples=reference.count,
        records=len(records),
        distinct=len(distinct),
        errors=sum(record.error is not None for record in distinct),
        since=min(times),
        until=max(times),
        comparisons=tuple(sorted(comparisons, key=lambda comparison: (comparison.corrected, comparison.p))),
    )


def first_of_each_input(records: Sequence[Record]) -> list[Record]:
    """Return the first record of each input, in their order; records without a digest are all kept."""
    first: dict[object, Record] = {}
    for number, record in enumerate(records):
        first.setdefault(record.digest or number, record)
    return list(first.values())


def columns_of(records: Sequence[Record], features: Sequence[str]) -> dict[str, list[Value]]:
    """Return the numbers and categories of the records that could be read, by name; `features` names the features."""
    rows = [row for record in records if (row := profile.row(record, features))]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _tests(reference: Reference, window: Columns, generator: np.random.Generator) -> Iterator[_Test]:
    """Yield a test for each column that both sides have, then one for all features together."""
    for name, values in reference.columns.items():
        before, after = _present(values), _present(window.get(name, ()))
        if len(before) < MIN_VALUES or len(after) < MIN_VALUES:
            continue
        if any(isinstance(value, str) for value in (*before, *after)):
            yield _categories(name, [str(value) for value in before], [str(value) for value in after], generator)
        else:
            yield _numbers(name, np.array(before, np.float64), np.array(after, np.float64))
    names = [name for name in reference.features if name in reference.columns]
    rows = _matrix(reference.columns, names), _matrix(window, names)
    if names and min(len(side) for side in rows) >= MIN_VALUES:
        yield _mmd(*rows, generator)


def _readable(count: int, records: Sequence[Record], generator: np.random.Generator) -> _Test:
    """Return the test of the share that can be read; all validation examples can."""
    return _categories(
        READABLE, ["yes"] * count, ["yes" if record.error is None else "no" for record in records], generator
    )


def _present(values: Sequence[Value]) -> list[float | str]:
    return [value for value in values if value is not None]


def _matrix(columns: Columns, names: Sequence[str]) -> Floats:
    """Return the rows that have all of these numbers, [N, F]."""
    if not names or any(name not in columns for name in names):
        return np.zeros((0, len(names)))
    rows = zip(*(columns[name] for name in names), strict=True)
    return np.array([row for row in rows if None not in row], np.float64).reshape(-1, len(names))


def _numbers(name: str, before: Floats, after: Floats) -> _Test:
    """Return the Kolmogorov-Smirnov test of a number.

    Its asymptotic p-value: the exact one takes seconds for some counts, and both are conservative for equal values.
    """
    from scipy.stats import ks_2samp

    result = ks_2samp(before, after, method="asymp")
    deviation = math.sqrt((before.var() + after.var()) / 2)
    effect = float(after.mean() - before.mean()) / deviation if deviation else 0.0
    medians = float(np.median(before)), float(np.median(after))
    return _Test(name, KOLMOGOROV_SMIRNOV, float(result.statistic), float(result.pvalue), effect, "Cohen's d", *medians)


def _categories(name: str, before: list[str], after: list[str], generator: np.random.Generator) -> _Test:
    """Return the chi-square test of a category.

    Its p-value is that of permutations: of a hundred classes few have the five expected examples that the asymptotic
    one asks for, and merging the others would hide the new ones.
    """
    names, numbers = np.unique([*before, *after], return_inverse=True)
    totals = np.bincount(numbers, minlength=len(names))
    counts = np.bincount(numbers[len(before) :], minlength=len(names))
    size = len(before) + len(after)
    expected = totals * len(after) / size

    def chi_square(drawn: NDArray[np.int64]) -> Floats:
        """Return chi-square of how often each category is in the window [..., K]; the reference has the others."""
        # The table has two rows whose differences from what is expected are equal, but for the sign.
        terms = (drawn - expected) ** 2 * (1 / expected + 1 / (totals - expected))
        return np.asarray(terms.sum(axis=-1))

    statistic = float(chi_square(counts))
    p = _permutation_p(
        statistic, lambda most: chi_square(generator.multivariate_hypergeometric(totals, len(after), size=most))
    )
    shares = (totals - counts) / len(before), counts / len(after)
    changed = int(np.argmax(np.abs(shares[1] - shares[0])))
    effect = math.sqrt(statistic / size)  # of two rows
    changes = float(shares[0][changed]), float(shares[1][changed]), str(names[changed])
    return _Test(name, CHI_SQUARE, statistic, p, effect, "Cramér's V", *changes)


def _mmd(before: Floats, after: Floats, generator: np.random.Generator) -> _Test:
    """Return the test of the maximum mean discrepancy between rows [N, F] and [M, F], by permutation.

    The kernel is Gaussian over numbers of variance 1; its width is the median distance. Both come from all rows, so
    that a permutation does not change them.
    """
    rows = np.concatenate([_some(before, generator), _some(after, generator)])
    size, first = len(rows), min(len(before), MMD_ROWS)
    deviations = rows.std(axis=0)
    scaled = (rows - rows.mean(axis=0)) / np.where(deviations > 0, deviations, 1)
    squares = (scaled**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * scaled @ scaled.T, 0)
    width = float(np.median(distances[np.triu_indices(size, 1)])) or 1.0
    kernel = np.exp(-distances / width).astype(np.float32)

    def squared(weights: NDArray[np.float32]) -> Floats:
        """Return the squared discrepancy of weights [size, B]: 1/N for the reference, -1/M for the window."""
        return np.asarray((weights * (kernel @ weights)).sum(axis=0), np.float64)

    signs = np.full(size, -1 / (size - first), np.float32)
    signs[:first] = 1 / first

    def draw(most: int) -> Floats:
        return squared(generator.permuted(np.repeat(signs[:, None], most, axis=1), axis=0))

    statistic = float(squared(signs[:, None])[0])
    p = _permutation_p(statistic, draw)
    root = math.sqrt(max(statistic, 0))
    return _Test(TOGETHER, MMD, root, p, root, MMD)


def _some(rows: Floats, generator: np.random.Generator) -> Floats:
    return rows if len(rows) <= MMD_ROWS else rows[generator.choice(len(rows), MMD_ROWS, replace=False)]


def _permutation_p(statistic: float, draw: Callable[[int], Floats]) -> float:
    """Return the share of permutations at least as extreme as the data; `draw` returns the statistics of so many.

    Ends early where it is far from significant (Besag & Clifford, 1991, "Sequential Monte Carlo p-values").
    """
    extreme = drawn = 0
    while drawn < DRAWS and extreme < ENOUGH:
        values = draw(BLOCK)
        extreme += int((values >= statistic * (1 - 1e-6)).sum())  # the same table may differ in its last bits
        drawn += BLOCK
    return (extreme + 1) / (drawn + 1)
