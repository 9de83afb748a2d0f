"""The examples to look at, as cards: each with the findings about it, another label, and its copies."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowerml.data.layout import Row

MISTAKE = "mistake"
CONFLICTS = ("conflicting_label", "near_conflicting_label")
LEAKS = ("leak", "near_leak")
# In the order of the cards: wrong labels before copies, which are many in data collected from the web.
REVIEWED = ("conflicting_label", "label_error", "near_conflicting_label", MISTAKE, *LEAKS)
MEANINGS = {
    "conflicting_label": "the same content under two labels",
    "label_error": "its encoding suggests another label",
    "near_conflicting_label": "nearly the same content under two labels",
    MISTAKE: "worst mistakes of the model",
    "leak": "the same content in two splits",
    "near_leak": "nearly the same content in two splits",
}
MAX_PARTNERS = 4  # of a card; a picture may have hundreds of copies


@dataclass(frozen=True)
class Mistake:
    """A wrong answer of the model: the class it gave, its probability, and that of the label."""

    id: str
    predicted: str
    probability: float
    of_label: float


@dataclass(frozen=True)
class Reason:
    """Why an example is looked at. `group` are the ids of its copies and its own, if it has copies."""

    finding: str
    text: str
    suggested: str | None = None
    probability: float | None = None
    group: tuple[str, ...] = ()

    def is_settled(self, label: Callable[[str], str | None], split: Callable[[str], str]) -> bool:
        """Return whether decisions on the copies leave nothing to decide; `label` is None for a dropped example."""
        rest = [id for id in self.group if label(id) is not None]
        if self.finding in CONFLICTS:
            return len({label(id) for id in rest}) < 2
        return self.finding in LEAKS and len({split(id) for id in rest}) < 2


@dataclass(frozen=True)
class Card:
    """One example to decide on, and all the reasons to look at it, the most serious first."""

    id: str
    reasons: list[Reason] = field(default_factory=list)

    def partners(self) -> list[str]:
        """Return the ids of its copies to show beside it."""
        ids = dict.fromkeys(id for reason in self.reasons for id in reason.group if id != self.id)
        return list(ids)[:MAX_PARTNERS]

    def is_settled(self, label: Callable[[str], str | None], split: Callable[[str], str]) -> bool:
        """Return whether decisions on other cards leave nothing to decide on this one."""
        return all(reason.is_settled(label, split) for reason in self.reasons)


def build(
    rows: Mapping[str, Row],
    findings: Iterable[Mapping[str, Any]],
    mistakes: Iterable[Mistake],
    names: Mapping[str, str],
    wanted: Collection[str] = REVIEWED,
) -> list[Card]:
    """Return a card for each example of a wanted finding, those of the first one of REVIEWED first, the worst first.

    `rows` are the examples by id, `findings` as in checks.json, `names` those of classes.
    """
    by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for finding in findings:
        by_name[finding["name"]].append(finding)
    cards: dict[str, Card] = {}
    for name in REVIEWED:
        if name in wanted:
            reasons = _mistakes(rows, mistakes, names) if name == MISTAKE else _reasons(rows, by_name[name], names)
            for id, reason in reasons:
                cards.setdefault(id, Card(id)).reasons.append(reason)
    return list(cards.values())


def _reasons(
    rows: Mapping[str, Row], findings: Iterable[Mapping[str, Any]], names: Mapping[str, str]
) -> Iterator[tuple[str, Reason]]:
    for finding in findings:
        for group in finding.get("groups", ()):
            yield from _of_copies(finding["name"], [rows[id] for id in group if id in rows], names)
        for id in finding["ids"] if finding["name"] == "label_error" else ():
            if id in rows:
                yield id, _label_error(finding, rows[id], names)


def _of_copies(name: str, group: Sequence[Row], names: Mapping[str, str]) -> Iterator[tuple[str, Reason]]:
    """Yield a reason for each of the copies; each suggests the label of the others, where they have one."""
    ids = tuple(row.id for row in group)
    same = "nearly the same content" if name.startswith("near_") else "the same content"
    for row in group if len(group) > 1 else ():
        others = [other for other in group if other.id != row.id]
        labels = sorted({other.label for other in others} - {row.label})
        splits = sorted({other.split or "" for other in others} - {row.split})
        if name in CONFLICTS and labels:
            text = f"{same} is also labelled {' and '.join(names.get(label, label) for label in labels)}"
            yield row.id, Reason(name, text, labels[0] if len(labels) == 1 else None, group=ids)
        elif name in LEAKS and splits:
            text = f"{same} is also in {' and '.join(splits)}, which makes scores too good; drop one of them"
            yield row.id, Reason(name, text, group=ids)


def _label_error(finding: Mapping[str, Any], row: Row, names: Mapping[str, str]) -> Reason:
    suggestion = finding.get("suggestions", {}).get(row.id)
    if suggestion is None:  # written by an earlier version
        return Reason("label_error", finding["notes"].get(row.id, MEANINGS["label_error"]))
    label, probability = suggestion["label"], suggestion["probability"]
    text = f"its encoding looks like {names.get(label, label)}"
    return Reason("label_error", text, label if label != row.label else None, probability)


def _mistakes(
    rows: Mapping[str, Row], mistakes: Iterable[Mistake], names: Mapping[str, str]
) -> Iterator[tuple[str, Reason]]:
    for mistake in mistakes:
        row = rows.get(mistake.id)
        if row is not None and row.label != mistake.predicted:
            answer = names.get(mistake.predicted, mistake.predicted)
            text = f"the model says {answer}, and gives the label {mistake.of_label:.3f}"
            yield row.id, Reason(MISTAKE, text, mistake.predicted, mistake.probability)
