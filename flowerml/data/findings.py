"""The findings of the data checks by name: their severity, meaning and remedy."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowerml.core.display import did_you_mean, printable
from flowerml.core.errors import DataError

SEVERITIES = ("error", "warning", "note")
MAX_GROUPS = 1000  # of one finding that are listed; its count is of all
MAX_IDS = 100_000  # of one finding that are listed: a thousand groups may be a million copies


@dataclass(frozen=True)
class FindingKind:
    """The severity of a finding, a statement about {count} items, and the remedy."""

    severity: str
    statement: str
    remedy: str


KINDS: dict[str, FindingKind] = {
    "refused": FindingKind(
        "error", "the data cannot be used for training as they are", "fix this first; nothing else would run"
    ),
    "empty_class": FindingKind("error", "{count} without a readable example", "add examples, or remove the class"),
    "conflicting_label": FindingKind(
        "error", "{count} with the same content under two labels", "keep the right label, remove the other"
    ),
    "leak": FindingKind(
        "error",
        "{count} with the same content in another split, which makes scores too good",
        "remove one, or deal them as one group (data.split.table)",
    ),
    "unreadable": FindingKind(
        "warning", "{count} that cannot be read, and are skipped", "get fresh copies, or remove them"
    ),
    "wrong_type": FindingKind(
        "warning", "{count} of another type than the name says", "rename them, or remove what does not belong"
    ),
    "empty": FindingKind("warning", "{count} without content, and skipped", "remove them"),
    "tiny": FindingKind("warning", "{count} smaller than data.checks.smallest_side", "remove them, or get larger ones"),
    "enormous": FindingKind("warning", "{count} of enormous size", "scale them down, or raise the limit that is named"),
    "extreme_shape": FindingKind(
        "warning", "{count} with an extreme aspect ratio", "crop them: the encoder sees a square"
    ),
    "too_short": FindingKind(
        "warning", "{count} with fewer words than data.checks.fewest_words", "check whether they say enough"
    ),
    "tiny_class": FindingKind(
        "warning",
        "{count} with fewer examples than data.checks.tiny_class",
        "add examples, or merge the class with another",
    ),
    "colliding_class_names": FindingKind(
        "warning", "{count} that differ only in case, spaces or the encoding of accents", "rename them if they are one"
    ),
    "missing_in_split": FindingKind(
        "warning",
        "{count} without an example in a split that other classes have",
        "add some; without them a class is not learned, or not measured",
    ),
    "duplicate": FindingKind(
        "warning", "{count} with the same content as another in their split", "remove all but one"
    ),
    "near_leak": FindingKind(
        "warning",
        "{count} nearly the same as one in another split, which makes scores too good",
        "look at them; remove one, or deal them as one group (data.split.table)",
    ),
    "near_conflicting_label": FindingKind("warning", "{count} nearly the same under two labels", "look at them"),
    "label_error": FindingKind(
        "note",  # half of them are labelled correctly, so only fail_on: label_error stops at them
        "{count} whose encodings suggest another label",
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
    "partly_compared": FindingKind(
        "note",
        "{count} not compared with all others, so that problems of theirs may be missed",
        "check a part of the data (data.limit) where every one matters",
    ),
    "odd_mode": FindingKind(
        "note",
        "{count} with unusual pixels, converted on reading",
        "check whether they look right: transparent becomes white",
    ),
    "rotated": FindingKind("note", "{count} turned upright by an EXIF flag", "other programs may show them sideways"),
    "too_long": FindingKind(
        "note", "{count} with more words than data.checks.most_words", "words beyond encode.max_length are cut"
    ),
    "garbled": FindingKind("note", "{count} with characters that look wrongly decoded", "save them again as UTF-8"),
}


@dataclass(frozen=True)
class Suggestion:
    """Another label for an example, and how probable it is."""

    label: str
    probability: float


@dataclass(frozen=True)
class Finding:
    """One finding: its name, how many items it concerns, and which.

    `noun` names the counted items, such as "pictures". `groups` are the ids that belong together (an example and its
    copy; often a single id), the worst first where they can be ranked. `notes` are remarks by id, `suggestions` other
    labels.

    >>> Finding("unreadable", 2, "pictures").text
    '2 pictures that cannot be read, and are skipped: get fresh copies, or remove them'
    """

    name: str
    count: int
    noun: str
    groups: Sequence[Sequence[str]] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""
    suggestions: Mapping[str, Suggestion] = field(default_factory=dict)

    @property
    def severity(self) -> str:
        """Return the severity of its kind."""
        return KINDS[self.name].severity

    @property
    def text(self) -> str:
        """Return a sentence: what was found, and the remedy."""
        kind = KINDS[self.name]
        statement = kind.statement.format(count=f"{self.count:,} {self.noun}")
        return f"{statement}{f' ({self.detail})' if self.detail else ''}: {kind.remedy}"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain data, with at most MAX_GROUPS groups and MAX_IDS ids."""
        groups = list(_first_ids(self.groups[:MAX_GROUPS]))
        ids = [id for group in groups for id in group]
        return {
            "name": self.name,
            "severity": self.severity,
            "count": self.count,
            "text": self.text,
            "ids": ids,
            **({"groups": groups} if any(len(group) > 1 for group in groups) else {}),
            "notes": {id: self.notes[id] for id in ids if id in self.notes},
            **({"suggestions": self._suggestions(ids)} if self.suggestions else {}),
        }

    def _suggestions(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        chosen = ((id, self.suggestions[id]) for id in ids if id in self.suggestions)
        return {id: {"label": other.label, "probability": round(other.probability, 4)} for id, other in chosen}


class ChecksError(DataError):
    """Findings that `data.checks.fail_on` names, as plain data."""

    def __init__(self, findings: Sequence[dict[str, Any]], hint: str = "") -> None:
        self.findings = findings
        lines = [f"{finding['name']}: {finding['text']}{_first(finding)}" for finding in findings]
        super().__init__("\n".join([*lines, *([hint] if hint else [])]))


def to_sorted_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as plain data, the most severe first."""
    return by_severity(finding.to_json() for finding in findings)


def by_severity(findings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return findings sorted by severity, then by the order of KINDS."""
    names = list(KINDS)
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding["severity"]), names.index(finding["name"])))


def failing(findings: Iterable[dict[str, Any]], fail_on: Collection[str]) -> list[dict[str, Any]]:
    """Return the findings that `fail_on` names, by name or by severity."""
    return [finding for finding in findings if finding["name"] in fail_on or finding["severity"] in fail_on]


def validate_name(name: str) -> str:
    """Return the name of a finding or a severity; raises ValueError, with the closest name, for any other."""
    names = [*KINDS, *SEVERITIES]
    if name not in names:
        suggestion = did_you_mean(name, names) or f"known are {', '.join(names)}"
        raise ValueError(f"no check is called {name!r}; {suggestion}")
    return name


def _first_ids(groups: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the groups until they have MAX_IDS ids; the last one may be cut."""
    left = MAX_IDS
    for group in groups:
        if left <= 0:
            return
        yield list(group[:left])
        left -= len(group)


def _first(finding: dict[str, Any]) -> str:
    return f"; the first: {printable(finding['ids'][0])}" if finding["ids"] else ""
