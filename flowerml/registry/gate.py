"""The gate: rules that decide whether a new version takes the alias from the champion."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowerml.core.display import truncate
from flowerml.evaluation.intervals import paired_difference

if TYPE_CHECKING:
    import pandas as pd

    from flowerml.config.params import Gate

RESAMPLES, SEED = 10_000, 0
FALSE_ALARM = 0.05  # probability of mistaking noise for a collapse, over all classes of one comparison
MAX_LABEL = 60  # characters of a class in a message
SHOWN_CLASSES = 3  # collapsed classes named in a message
SAMPLE = "sample"  # the embedded data, in `data.source`


@dataclass(frozen=True, eq=False)
class Candidate:
    """What the gate compares of a version; None stands for what is unknown.

    `accuracy` and `ece` were measured on the test set with the digest `test_digest`. `answers` are the predictions on
    it: a table with the columns id, actual and predicted. `size` is that of the saved classifier, in bytes. `source` is
    the parameter `data.source` it was trained with.
    """

    version: str
    accuracy: float | None
    test_digest: str | None
    classes: tuple[str, ...]
    answers: "pd.DataFrame | None"
    ece: float | None
    size: int | None
    source: str | None = None

    def yields_to(self, new: "Candidate") -> bool:
        """Return whether it was trained on the embedded sample, and the other one on real data."""
        return self.source == SAMPLE and new.source not in (None, SAMPLE)

    def same_test(self, champion: "Candidate") -> bool:
        """Return whether both were measured on the same test set."""
        known = self.accuracy is not None and champion.accuracy is not None and self.test_digest is not None
        return known and self.test_digest == champion.test_digest

    def same_classes(self, champion: "Candidate") -> bool:
        """Return whether both tell the same classes apart."""
        return set(self.classes) == set(champion.classes)


@dataclass(frozen=True)
class Rule:
    """The outcome of one rule: whether it passed (None: not judged), the number, its limit, and a message."""

    name: str
    passed: bool | None
    value: float | None
    limit: float | None
    message: str


@dataclass(frozen=True)
class Decision:
    """Whether the alias moves, the reason in one line, and the outcome of each rule.

    `comparable` is False where there is a champion that the version could not be compared with; it is not promoted.
    """

    promoted: bool
    reason: str
    rules: tuple[Rule, ...]
    comparable: bool = True


@dataclass(frozen=True)
class Collapse:
    """A class of `support` test examples whose recall has fallen by more than chance explains."""

    label: str
    support: int
    before: float
    after: float

    @property
    def drop(self) -> float:
        """Return by how much recall has fallen."""
        return self.before - self.after

    def __str__(self) -> str:
        label = truncate(repr(self.label), MAX_LABEL)
        return f"class {label} (recall {self.after:.2f}, was {self.before:.2f}, {self.support} examples)"


def evaluate_gate(new: Candidate, champion: Candidate | None, limits: "Gate") -> Decision:
    """Return whether the new version passes every rule.

    By itself: its calibration error and size are within the limits. Against the champion: its accuracy is not lower;
    the lower end of the 95 % interval of the paired difference is not below -margin; and no class collapses. The last
    two need the predictions of both on the same examples; where these are missing, accuracy alone decides.

    A champion that was trained on the embedded sample yields to a version on real data. Otherwise a version that was
    not measured on the champion's test set, or has other classes, does not pass.

    >>> from flowerml.config.params import Gate
    >>> limits = Gate(margin=0.02, max_recall_drop=0.2, max_ece=0.04, max_bytes=None)
    >>> new = Candidate("1", accuracy=0.9, test_digest="a", classes=("x", "y"), answers=None, ece=0.05, size=1000)
    >>> evaluate_gate(new, None, limits).reason
    'there was no champion to compare with; but calibration error 0.0500 (limit 0.0400)'
    """
    rules = list(_own_rules(new, limits))
    if champion is None or champion.yields_to(new):
        return _without_comparison(champion, rules)
    if obstacle := _why_not_comparable(new, champion):
        return Decision(False, obstacle, tuple(rules), comparable=False)
    rules = [*_comparison_rules(new, champion, limits), *rules]
    failed = [rule for rule in rules if rule.passed is False]
    return Decision(not failed, _reason(new, champion, rules), tuple(rules))


def collapsed(new: "pd.DataFrame", old: "pd.DataFrame", *, max_drop: float) -> "list[Collapse]":
    """Return the classes whose recall has fallen by more than `max_drop` and by more than chance, worst first.

    new, old: predictions of two classifiers on the same examples, with the columns actual and predicted.

    A drop is beyond chance where a classifier that is equally good at the class would have so few correct answers with
    a probability below FALSE_ALARM / classes (Bonferroni). How good the old one is at a class is only known from the
    examples of that class, so its correct answers follow a beta-binomial distribution, from a uniform prior. Of 102
    classes with 8 examples each, one that falls from 8 correct answers to 1 has collapsed; with 20 examples, one from
    20 to 11.
    """
    from scipy.stats import betabinom

    collapses = []
    correct_before, correct_after = _correct_per_class(old), _correct_per_class(new)
    for label, support in old["actual"].value_counts().sort_index().items():
        before, after = int(correct_before.get(label, 0)), int(correct_after.get(label, 0))
        probability = betabinom.cdf(after, support, before + 1, support - before + 1)
        if (before - after) / support > max_drop and probability < FALSE_ALARM / old["actual"].nunique():
            collapses.append(Collapse(str(label), int(support), before / support, after / support))
    return sorted(collapses, key=lambda collapse: -collapse.drop)


def _correct_per_class(answers: "pd.DataFrame") -> "pd.Series[int]":
    """Return the number of correct answers per class, without classes that have none."""
    return answers.loc[answers["actual"] == answers["predicted"], "actual"].value_counts()


def _without_comparison(champion: Candidate | None, rules: list[Rule]) -> Decision:
    """Return the decision by a version's own rules, where it has no champion to beat."""
    reason = "there was no champion to compare with"
    if champion is not None:
        reason = f"version {champion.version} was trained on the embedded sample and yields to real data"
    failed = [rule.message for rule in rules if rule.passed is False]
    return Decision(not failed, f"{reason}; but {'; '.join(failed)}" if failed else reason, tuple(rules))


def _why_not_comparable(new: Candidate, champion: Candidate) -> str | None:
    if new.source == SAMPLE and champion.source != SAMPLE and not new.same_test(champion):
        return f"trained on the embedded sample, and version {champion.version} was not: not comparable"
    if champion.accuracy is None or champion.test_digest is None:
        return f"accuracy and test set of version {champion.version} are not recorded: not comparable"
    if not new.same_classes(champion):
        return f"different classes from version {champion.version}: not comparable"
    if not new.same_test(champion):
        return f"different test set from version {champion.version}: not comparable"
    return None


def _own_rules(new: Candidate, limits: "Gate") -> Iterator[Rule]:
    """Yield the rules that need no champion; none where there is no limit."""
    if limits.max_ece is not None:
        ece = "unknown" if new.ece is None else f"{new.ece:.4f}"
        passed = new.ece is not None and new.ece <= limits.max_ece
        message = f"calibration error {ece} (limit {limits.max_ece:.4f})"
        yield Rule("calibration", passed, new.ece, limits.max_ece, message)
    if limits.max_bytes is not None:
        size = "unknown" if new.size is None else f"{new.size:,} bytes"
        passed = new.size is not None and new.size <= limits.max_bytes
        yield Rule("size", passed, new.size, limits.max_bytes, f"size {size} (limit {limits.max_bytes:,})")


def _comparison_rules(new: Candidate, champion: Candidate, limits: "Gate") -> Iterator[Rule]:
    """Yield the rules that compare the new version with the champion."""
    accuracy, champion_accuracy = _accuracies(new, champion)
    message = f"test accuracy {accuracy:.4f}, version {champion.version} has {champion_accuracy:.4f}"
    yield Rule("accuracy", accuracy >= champion_accuracy, accuracy, champion_accuracy, message)
    pair = _aligned(new, champion)
    if pair is None:
        message = f"not judged: no predictions of version {champion.version} on the same examples are available"
        yield Rule("margin", None, None, -limits.margin, message)
        yield Rule("recall", None, None, limits.max_recall_drop, message)
        return
    yield _margin_rule(*pair, limits)
    if limits.max_recall_drop is not None:
        yield _recall_rule(*pair, limits.max_recall_drop)


def _accuracies(new: Candidate, champion: Candidate) -> tuple[float, float]:
    assert new.accuracy is not None and champion.accuracy is not None
    return new.accuracy, champion.accuracy


def _aligned(new: Candidate, champion: Candidate) -> "tuple[pd.DataFrame, pd.DataFrame] | None":
    """Return the answers of both in the same order; None where they are missing or to different examples."""
    if new.answers is None or champion.answers is None:
        return None
    ours, theirs = (table.astype(str).sort_values("id", ignore_index=True) for table in (new.answers, champion.answers))
    same = len(ours) > 0 and ours[["id", "actual"]].equals(theirs[["id", "actual"]])
    return (ours, theirs) if same else None


def _margin_rule(new: "pd.DataFrame", old: "pd.DataFrame", limits: "Gate") -> Rule:
    hits = (table["actual"] == table["predicted"] for table in (new, old))
    difference = paired_difference(*hits, resamples=RESAMPLES, seed=SEED)
    message = f"difference {difference.estimate:+.4f} (95 %: {difference.low:+.4f} to {difference.high:+.4f})"
    passed = difference.low >= -limits.margin
    if not passed:
        message += f", lower end must be at least {-limits.margin:+.4f}"
    return Rule("margin", passed, difference.low, -limits.margin, message)


def _recall_rule(new: "pd.DataFrame", old: "pd.DataFrame", max_drop: float) -> Rule:
    collapses = collapsed(new, old, max_drop=max_drop)
    if not collapses:
        return Rule("recall", True, None, max_drop, "no class has collapsed")
    more = f", and {len(collapses) - SHOWN_CLASSES} more" if len(collapses) > SHOWN_CLASSES else ""
    message = f"{', '.join(map(str, collapses[:SHOWN_CLASSES]))}{more}: collapsed"
    return Rule("recall", False, collapses[0].drop, max_drop, message)


def _reason(new: Candidate, champion: Candidate, rules: list[Rule]) -> str:
    """Return the decision in one line."""
    failed = [rule.message for rule in rules if rule.passed is False and rule.name != "accuracy"]
    scores = "; ".join(
        rule.message for rule in rules if rule.name in ("accuracy", "margin") and rule.message not in failed
    )
    accuracy, champion_accuracy = _accuracies(new, champion)
    word = "worse" if accuracy < champion_accuracy else "better" if accuracy > champion_accuracy else "as good"
    return ("; " if word == "worse" else "; but ").join([f"{word}: {scores}", *failed])
