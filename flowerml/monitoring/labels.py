"""Accuracy where the labels of served inputs come later: over time, beside the one on the validation examples."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from flowerml.core.display import printable
from flowerml.core.errors import DataError
from flowerml.core.regular import open_regular
from flowerml.evaluation.intervals import Interval, wilson_interval
from flowerml.monitoring.record import Record
from flowerml.monitoring.reference import Accuracy

COLUMNS = ("digest", "label")
MOST = 12  # periods
FEW = 30  # answers of a period
LEVEL = 0.05

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Period:
    """Answers in their order: `since` and `until` in seconds since 1970, how many have a label, how many are correct.

    >>> period = Period(0.0, 60.0, count=10, correct=8)
    >>> f"{period.interval.low:.3f}"
    '0.490'
    """

    since: float
    until: float
    count: int
    correct: int

    @property
    def interval(self) -> Interval:
        """Return the accuracy with its Wilson interval."""
        return wilson_interval(self.correct, self.count)


@dataclass(frozen=True)
class Labelled:
    """The answers whose inputs have a label: all of them, and by periods of equally many.

    `unmatched` counts the labels whose input is not in the log, `unknown` the answers whose label is no class of the
    classifier, and which are wrong. `expected` is the accuracy on validation examples, `p` the probability of a
    difference like this by chance (Fisher's exact test, two-sided); None where the classifier does not tell it.
    """

    overall: Period
    periods: tuple[Period, ...]
    unmatched: int
    unknown: int
    expected: Accuracy | None
    p: float | None

    @property
    def worse(self) -> bool:
        """Return whether the accuracy is significantly lower than on the validation examples."""
        below = self.expected is not None and self.overall.interval.estimate < self.expected.share
        return self.p is not None and below and self.p <= LEVEL

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""

        def plain(period: Period) -> dict[str, Any]:
            interval = period.interval
            return {**asdict(period), "accuracy": interval.estimate, "low": interval.low, "high": interval.high}

        expected = self.expected and {**asdict(self.expected), "accuracy": self.expected.share}
        facts = {"unmatched": self.unmatched, "unknown": self.unknown, "expected": expected, "p": self.p}
        return {**plain(self.overall), **facts, "worse": self.worse, "periods": [plain(each) for each in self.periods]}


def read_labels(path: Path) -> dict[str, str]:
    """Return the label of each digest in a CSV file with the columns digest and label; raises DataError.

    A digest is the SHA-256 of an input in hex, as the log has it. Twice the same digest and label is no error.
    """
    try:
        with _text(path) as file:
            return dict(_rows(path, file))
    except OSError as error:
        raise DataError(f"{printable(str(path))}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{printable(str(path))}: expected a CSV file in UTF-8 with the columns digest and label ({error})"
        ) from None


def labelled(
    records: Sequence[Record], labels: Mapping[str, str], *, classes: Sequence[str], expected: Accuracy | None
) -> Labelled | None:
    """Return the accuracy of the answers, each input once; None where none of them has a label.

    An input that could not be read was not answered, and does not count.
    """
    answers = {record.digest: record for record in records if record.digest in labels and record.top}
    ordered = sorted(answers.values(), key=lambda record: record.time)
    if not ordered:
        return None
    hits = [record.top[0][0] == labels[record.digest] for record in ordered]
    overall = _period(ordered, hits)
    number = min(MOST, max(1, len(hits) // FEW))
    edges = [len(hits) * part // number for part in range(number + 1)]
    return Labelled(
        overall,
        tuple(_period(ordered[start:end], hits[start:end]) for start, end in pairwise(edges)),
        unmatched=len(labels) - len(answers),
        unknown=sum(labels[record.digest] not in classes for record in ordered),
        expected=expected,
        p=None if expected is None else _p(overall, expected),
    )


def _text(path: Path) -> IO[str]:
    return io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="")


def _rows(path: Path, file: IO[str]) -> Iterator[tuple[str, str]]:
    reader = csv.reader(file, strict=True)
    header = [name.strip().lower() for name in next(reader, [])]
    if missing := [name for name in COLUMNS if name not in header]:
        raise DataError(
            f"{printable(str(path))}: expected the columns digest and label, found no {' and no '.join(missing)} in "
            f"the first line"
        )
    places = [header.index(name) for name in COLUMNS]
    seen: dict[str, str] = {}
    for row in reader:
        if not any(row):
            continue
        digest, label = ((row[place].strip() if place < len(row) else "") for place in places)
        where = f"{printable(str(path))}, line {reader.line_num:,}"
        if not _DIGEST.fullmatch(digest := digest.lower()) or not label:
            raise DataError(
                f"{where}: expected the SHA-256 of an input (64 hex digits) and its label, found "
                f"{printable(digest, 70) or 'none'} and {printable(label, 40) or 'none'}"
            )
        if seen.setdefault(digest, label) != label:
            raise DataError(
                f"{where}: the input {digest[:12]}… has the label {printable(label, 40)}, and "
                f"{printable(seen[digest], 40)} above; keep one of them"
            )
        yield digest, label


def _period(records: Sequence[Record], hits: Sequence[bool]) -> Period:
    return Period(records[0].time, records[-1].time, count=len(hits), correct=sum(hits))


def _p(overall: Period, expected: Accuracy) -> float:
    from scipy.stats import fisher_exact

    table = [
        [overall.correct, overall.count - overall.correct],
        [expected.correct, expected.count - expected.correct],
    ]
    return float(fisher_exact(table).pvalue)
