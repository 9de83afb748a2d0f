"""All that may be found in data, by name: how bad it is, what it means and what to do."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowerml.core.display import did_you_mean, printable
from flowerml.core.errors import DataError

SEVERITIES = ("error", "warning", "note")
MOST = 1000  # groups of one finding that are kept by their ids; its count is of all


@dataclass(frozen=True)
class FindingKind:
    """A finding's severity, what it is of {count} things, and what to do."""

    severity: str
    found: str
    do: str


KINDS: dict[str, FindingKind] = {
    "refused": FindingKind(
        "error", "the data cannot be learned from as they are", "mend this first; nothing else would run"
    ),
    "empty_class": FindingKind("error", "{count} without a readable example", "add examples, or remove the class"),
    "conflicting_label": FindingKind(
        "error", "{count} under two labels though their contents are the same", "keep the right label, remove the other"
    ),
    "leak": FindingKind(
        "error",
        "{count} with the same content in another split, so that a score on it is too good",
        "remove one, or deal them as one group (data.split.table)",
    ),
    "unreadable": FindingKind(
        "warning", "{count} that cannot be read, and left out", "get fresh copies, or remove them"
    ),
    "wrong_type": FindingKind(
        "warning", "{count} of another type than the name says", "rename them, or remove what is not meant"
    ),
    "empty": FindingKind("warning", "{count} without any content, and left out", "remove them"),
    "tiny": FindingKind("warning", "{count} smaller than data.checks.smallest_side", "remove them, or get larger ones"),
    "enormous": FindingKind("warning", "{count} of enormous size", "scale them down, or raise the limit that is named"),
    "extreme_shape": FindingKind(
        "warning", "{count} far longer one way than the other", "cut out what is meant: the encoder sees a square"
    ),
    "too_short": FindingKind(
        "warning", "{count} with fewer words than data.checks.fewest_words", "see whether they say enough"
    ),
    "tiny_class": FindingKind(
        "warning", "{count} with fewer examples than data.checks.tiny_class", "add examples, or join"
    ),
    "colliding_class_names": FindingKind(
        "warning", "{count} that differ in case, spaces or spelling of accents only", "rename those that are one"
    ),
    "missing_in_split": FindingKind(
        "warning",
        "{count} without an example in a split that others are in",
        "add some; they are not measured, or taught",
    ),
    "duplicate": FindingKind(
        "warning", "{count} with the same content as another in their split", "remove all but one"
    ),
    "near_leak": FindingKind(
        "warning",
        "{count} nearly the same as one in another split, so that a score on it is too good",
        "look at them; remove one, or deal them as one group (data.split.table)",
    ),
    "near_conflicting_label": FindingKind(
        "warning", "{count} under two labels though they are nearly the same", "look at them"
    ),
    "label_error": FindingKind(
        "note",  # half of them are right, so nothing should stop at these unless they are named
        "{count} whose encodings speak for another label than they have",
        "look at them, the first ones first",
    ),
    "imbalance": FindingKind(
        "warning",
        "the largest class has more than data.checks.imbalance times as many training examples as the smallest",
        "add examples, or set train.class_weights to balanced",
    ),
    "near_duplicate": FindingKind(
        "note", "{count} nearly the same as another in their split", "look at them; keep one of each"
    ),
    "odd_mode": FindingKind(
        "note", "{count} with unusual pixels, converted on reading", "see whether they look right: transparent is white"
    ),
    "rotated": FindingKind(
        "note", "{count} that are turned upright by an EXIF flag", "other programs may show them lying"
    ),
    "too_long": FindingKind(
        "note", "{count} with more words than data.checks.most_words", "what is beyond encode.max_length is cut"
    ),
    "garbled": FindingKind("note", "{count} with characters that look wrongly decoded", "save them again as UTF-8"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found: its name, what it is of, and where.

    `groups` are the ids that belong together (an example and its copy; often an id alone), the worst first where
    there is an order; `notes` say something of ids. `things` is what is counted, in words: "3 pictures".
    """

    name: str
    count: int
    things: str
    groups: Sequence[Sequence[str]] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""

    @property
    def severity(self) -> str:
        return KINDS[self.name].severity

    @property
    def text(self) -> str:
        """A sentence that says what was found, and what to do."""
        kind = KINDS[self.name]
        found = kind.found.format(count=f"{self.count:,} {self.things}")
        return f"{found}{f' ({self.detail})' if self.detail else ''}: {kind.do}"

    def to_json(self) -> dict[str, Any]:
        """As plain data; of very many groups the first."""
        groups = [list(group) for group in self.groups[:MOST]]
        ids = [id for group in groups for id in group]
        together = {"groups": groups} if any(len(group) > 1 for group in groups) else {}
        notes = {id: self.notes[id] for id in ids if id in self.notes}
        named = {"name": self.name, "severity": self.severity, "count": self.count, "text": self.text}
        return {**named, "ids": ids, **together, "notes": notes}


class ChecksError(DataError):
    """Something was found that `data.checks.fail_on` stops at; `findings` are those, as plain data."""

    def __init__(self, findings: Sequence[dict[str, Any]], hint: str = "") -> None:
        self.findings = findings
        lines = [f"{one['name']}: {one['text']}{_first(one)}" for one in findings]
        super().__init__("\n".join([*lines, *([hint] if hint else [])]))


def to_sorted_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """As plain data, the worst first."""
    return by_severity(one.to_json() for one in findings)


def by_severity(findings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """These, the worst first."""
    names = list(KINDS)
    return sorted(findings, key=lambda one: (SEVERITIES.index(one["severity"]), names.index(one["name"])))


def failing(findings: Iterable[dict[str, Any]], fail_on: Collection[str]) -> list[dict[str, Any]]:
    """Those that `fail_on` names, itself or by their severity."""
    return [one for one in findings if one["name"] in fail_on or one["severity"] in fail_on]


def validate_name(name: str) -> str:
    """The name of a finding or a severity as it came; raises ValueError, with the nearest one, for any other."""
    names = [*KINDS, *SEVERITIES]
    if name not in names:
        meant = did_you_mean(name, names) or f"known are {', '.join(names)}"
        raise ValueError(f"nothing that is looked for is called {name!r}; {meant}")
    return name


def _first(finding: dict[str, Any]) -> str:
    return f"; the first: {printable(finding['ids'][0])}" if finding["ids"] else ""
