"""Whether a new version may take the champion's place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """What the gate compares of a version. `test_digest` says on which test set `accuracy` was measured."""

    version: str
    accuracy: float
    test_digest: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether the alias moves, and why."""

    promoted: bool
    reason: str


def judge(new: Contender, champion: Contender | None) -> Verdict:
    """The new version takes the alias unless it is worse than the champion on the same test set.

    With other classes or another test set the two cannot be compared, and the newer takes it.
    """
    if champion is None:
        return Verdict(True, "there was no champion to compare with")
    if new.classes != champion.classes:
        return Verdict(True, f"other classes than version {champion.version}: not comparable")
    if new.test_digest != champion.test_digest:
        return Verdict(True, f"another test set than version {champion.version}: not comparable")
    scores = f"test accuracy {new.accuracy:.4f}, version {champion.version} has {champion.accuracy:.4f}"
    if new.accuracy < champion.accuracy:
        return Verdict(False, f"worse: {scores}")
    return Verdict(True, f"not worse: {scores}")
