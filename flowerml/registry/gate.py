"""Whether a new version may take the champion's place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowerml.evaluation.intervals import paired_difference

if TYPE_CHECKING:
    import pandas as pd

    from flowerml.config.params import Gate

RESAMPLES, SEED = 10_000, 0
CHANCE = 0.05  # of taking noise for a collapse, in one comparison of all classes
LONGEST_LABEL = 60  # characters of a class that are told
MANY = 3  # collapsed classes that are told of


@dataclass(frozen=True, eq=False)
class Candidate:
    """What the gate compares of a version; None is what is not known of it.

    `test_digest` says on which test set `accuracy` and `ece` were measured. `answers` are to its examples: a table
    with the columns id, actual and predicted. `size` is that of the saved classifier, in bytes.
    """

    version: str
    accuracy: float | None
    test_digest: str | None
    classes: tuple[str, ...]
    answers: "pd.DataFrame | None"
    ece: float | None
    size: int | None


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: whether it was held to (None: it could not be judged), by which number, and in words."""

    name: str
    passed: bool | None
    value: float | None
    limit: float | None
    told: str


@dataclass(frozen=True)
class Decision:
    """Whether the alias moves, why in a line, and each rule."""

    promoted: bool
    reason: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Collapse:
    """A class of `support` test examples whose recall has fallen by more than chance explains."""

    label: str
    support: int
    before: float
    after: float

    def __str__(self) -> str:
        label = repr(self.label)[:LONGEST_LABEL]
        return f"class {label} (recall {self.after:.2f}, was {self.before:.2f}, {self.support} examples)"


def evaluate_gate(new: Candidate, champion: Candidate | None, limits: "Gate") -> Decision:
    """The new version takes the alias if it holds to every rule.

    Each version: its calibration error and its size are within the limits. Against the champion, where both were
    measured on the same test set with the same classes: its accuracy is not lower; nor is it at worst (the lower end
    of the 95 % interval of the paired difference) lower by more than the margin; and no class collapses. The last two
    ask for the champion's answers; where they are not to be had, accuracy alone decides.
    """
    rules = list(_own_rules(new, limits))
    other = _not_comparable(new, champion)
    if champion is not None and other is None:
        rules = [*_rules_of_two(new, champion, limits), *rules]
    failed = [rule for rule in rules if rule.passed is False]
    return Decision(not failed, _reason(new, champion, other, rules), tuple(rules))


def collapsed(new: "pd.DataFrame", old: "pd.DataFrame", *, max_drop: float) -> "list[Collapse]":
    """The classes whose recall has fallen by more than `max_drop`, and by more than chance; the worst first.

    new, old: the answers of two classifiers to the same examples, with the columns actual and predicted. By chance a
    classifier that is as good at a class as the other one would have so few right answers less often than CHANCE in
    one comparison of all classes (Bonferroni). What "as good" is, is only known from as many examples as the class
    has: the right answers follow a beta-binomial distribution, from a uniform prior. So of 102 classes with 8 examples
    each, one that falls from 8 right answers to 1 has collapsed; with 20 examples, one from 20 to 11.
    """
    from scipy.stats import betabinom  # type: ignore[import-untyped]

    found = []
    before, after = _right(old), _right(new)
    for label, support in old["actual"].value_counts().sort_index().items():
        was, now = int(before.get(label, 0)), int(after.get(label, 0))
        chance = betabinom.cdf(now, support, was + 1, support - was + 1)
        if (was - now) / support > max_drop and chance < CHANCE / old["actual"].nunique():
            found.append(Collapse(str(label), int(support), was / support, now / support))
    return sorted(found, key=lambda one: one.after - one.before)


def _right(answers: "pd.DataFrame") -> "pd.Series[int]":
    """How many right answers each class got; a class without any is not there."""
    return answers.loc[answers["actual"] == answers["predicted"], "actual"].value_counts()


def _not_comparable(new: Candidate, champion: Candidate | None) -> str | None:
    if champion is None:
        return "there was no champion to compare with"
    if champion.accuracy is None or champion.test_digest is None:
        return f"version {champion.version} does not tell how good it is, and on what: not comparable"
    if new.classes != champion.classes:
        return f"other classes than version {champion.version}: not comparable"
    if new.test_digest != champion.test_digest:
        return f"another test set than version {champion.version}: not comparable"
    return None


def _own_rules(new: Candidate, limits: "Gate") -> Iterator[Rule]:
    """What a version must hold to by itself; nothing, where there is no limit."""
    if limits.max_ece is not None:
        told = "calibration error not known" if new.ece is None else f"calibration error {new.ece:.4f}"
        passed = new.ece is not None and new.ece <= limits.max_ece
        yield Rule("calibration", passed, new.ece, limits.max_ece, f"{told}, {limits.max_ece:.4f} is allowed")
    if limits.max_bytes is not None:
        told = "size not known" if new.size is None else f"{new.size:,} bytes"
        passed = new.size is not None and new.size <= limits.max_bytes
        yield Rule("size", passed, new.size, limits.max_bytes, f"{told}, {limits.max_bytes:,} are allowed")


def _rules_of_two(new: Candidate, champion: Candidate, limits: "Gate") -> Iterator[Rule]:
    mine, other = _accuracies(new, champion)
    told = f"test accuracy {mine:.4f}, version {champion.version} has {other:.4f}"
    yield Rule("accuracy", mine >= other, mine, other, told)
    pair = _aligned(new, champion)
    if pair is None:
        told = f"not judged: the single answers of version {champion.version} are not to be had"
        yield Rule("margin", None, None, -limits.margin, told)
        yield Rule("recall", None, None, limits.max_recall_drop, told)
        return
    yield _margin_rule(*pair, limits)
    if limits.max_recall_drop is not None:
        yield _recall_rule(*pair, limits.max_recall_drop)


def _accuracies(new: Candidate, champion: Candidate) -> tuple[float, float]:
    assert new.accuracy is not None and champion.accuracy is not None
    return new.accuracy, champion.accuracy


def _aligned(new: Candidate, champion: Candidate) -> "tuple[pd.DataFrame, pd.DataFrame] | None":
    """The answers of both to the same examples in the same order; None where there are none, or to other examples."""
    if new.answers is None or champion.answers is None:
        return None
    mine, other = (table.astype(str).sort_values("id", ignore_index=True) for table in (new.answers, champion.answers))
    same = len(mine) > 0 and mine[["id", "actual"]].equals(other[["id", "actual"]])
    return (mine, other) if same else None


def _margin_rule(new: "pd.DataFrame", old: "pd.DataFrame", limits: "Gate") -> Rule:
    hits = (table["actual"] == table["predicted"] for table in (new, old))
    difference = paired_difference(*hits, resamples=RESAMPLES, seed=SEED)
    told = f"difference {difference.estimate:+.4f} (95 %: {difference.low:+.4f} to {difference.high:+.4f})"
    passed = difference.low >= -limits.margin
    if not passed:
        told += f", at worst {-limits.margin:+.4f} is allowed"
    return Rule("margin", passed, difference.low, -limits.margin, told)


def _recall_rule(new: "pd.DataFrame", old: "pd.DataFrame", max_drop: float) -> Rule:
    found = collapsed(new, old, max_drop=max_drop)
    if not found:
        return Rule("recall", True, None, max_drop, "no class collapses")
    more = f", and {len(found) - MANY} more" if len(found) > MANY else ""
    told = f"{', '.join(map(str, found[:MANY]))}{more}: collapsed"
    return Rule("recall", False, found[0].before - found[0].after, max_drop, told)


def _reason(new: Candidate, champion: Candidate | None, other: str | None, rules: list[Rule]) -> str:
    """The verdict in one line."""
    failed = [rule.told for rule in rules if rule.passed is False and rule.name != "accuracy"]
    if champion is None or other is not None:
        return f"{other}; but {'; '.join(failed)}" if failed else str(other)
    scores = "; ".join(rule.told for rule in rules if rule.name in ("accuracy", "margin") and rule.told not in failed)
    mine, theirs = _accuracies(new, champion)
    word = "worse" if mine < theirs else "better" if mine > theirs else "as good"
    return ("; " if word == "worse" else "; but ").join([f"{word}: {scores}", *failed])
