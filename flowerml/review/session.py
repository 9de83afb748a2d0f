"""A review: its cards, the decisions on them, and both as plain data for the page.

The page names an example and a class by their numbers here, never by a path or a label.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowerml.core.display import preview_list, printable
from flowerml.core.errors import FlowermlError
from flowerml.review.cards import MEANINGS, REVIEWED, Card, Reason
from flowerml.review.table import KINDS, Decision, LabelTable

MAX_SHOWN = 200  # characters of a name


class StaleError(FlowermlError):
    """A decision on what the page no longer shows right: another tab has decided on it meanwhile."""


@dataclass(frozen=True)
class Texts:
    """What the page says about a review: its title, the noun for an example, the command to go on with."""

    title: str
    noun: str
    command: str


class Session:
    """The cards of a review and the table of its decisions.

    `names` are those of classes; `view` returns what a person sees of an example.
    """

    def __init__(
        self,
        cards: Sequence[Card],
        table: LabelTable,
        *,
        names: Mapping[str, str],
        texts: Texts,
        view: Callable[[str], bytes | str | None],
    ) -> None:
        self.cards = cards
        self.table = table
        self.texts = texts
        self.names = names
        self.view = view
        shown = [id for card in cards for id in (card.id, *card.partners())]
        self.ids = list(dict.fromkeys(shown))
        labels = {entry.label for entry in table.entries.values()}
        labels |= {decision.label for decision in table.decisions.values() if decision.label}
        self.classes = sorted(labels, key=lambda label: (names.get(label, label).casefold(), label))
        self._before = Counter((entry.split, entry.label) for entry in table.entries.values())
        self._numbers = {id: number for number, id in enumerate(self.ids)}
        self._class_numbers = {label: number for number, label in enumerate(self.classes)}

    def description(self) -> dict[str, Any]:
        """Return all that does not change: examples, cards, classes and findings."""
        counts = Counter(reason.finding for card in self.cards for reason in card.reasons)
        return {
            "title": printable(self.texts.title, MAX_SHOWN),
            "noun": self.texts.noun,
            "table": printable(str(self.table.path), MAX_SHOWN),
            "command": self.texts.command,
            "classes": [self._class(label) for label in self.classes],
            "findings": [
                {"name": name, "meaning": MEANINGS[name], "count": counts[name]} for name in REVIEWED if counts[name]
            ],
            "examples": [self._example(id) for id in self.ids],
            "cards": [self._card(card) for card in self.cards],
        }

    def state(self) -> dict[str, Any]:
        """Return all that changes: the decisions by the number of their example, and what follows from them."""
        decided = ((self._numbers[id], self.table.decisions.get(id)) for id in self.ids)
        return {
            "decisions": {number: self._decision(decision) for number, decision in decided if decision},
            **self.progress(),
        }

    def progress(self) -> dict[str, Any]:
        """Return the settled cards, the counts of decisions, and warnings about what is left of a class."""
        settled = [number for number, card in enumerate(self.cards) if self._is_settled(card)]
        decided = Counter(
            decision.kind for card in self.cards if (decision := self.table.decisions.get(card.id)) is not None
        )
        counts: dict[str, int] = {kind: decided[kind] for kind in KINDS}
        done = sum(counts.values()) + len(settled)
        counts |= {"settled": len(settled), "left": len(self.cards) - done, "all": len(self.cards)}
        return {"settled": settled, "counts": counts, "warnings": self._warnings()}

    def decide(self, number: int, decision: Decision | None, seen: Decision | None) -> dict[str, Any]:
        """Save a decision on an example, None to take it back, and return the progress.

        Raises StaleError where the decision before was not the one `seen`, DataError and OSError where the table cannot
        be written; then nothing has changed.
        """
        id = self.ids[number]
        if self.table.decisions.get(id) != seen:
            raise StaleError(
                "this card was decided elsewhere meanwhile, perhaps in another tab; here is how it stands now"
            )
        if decision is not None and decision.label == self.table.entries[id].label:
            decision = Decision("keep")
        self.table.decide(id, decision)
        return {"example": number, "decision": self._decision(decision), **self.progress()}

    def decision(self, kind: object, label: object) -> Decision:
        """Return a decision from plain data, with a class by its number; raises ValueError."""
        known = next((known for known in KINDS if known == kind), None)
        if known is None:
            raise ValueError(f"expected a decision of {', '.join(KINDS)}")
        if known != "relabel":
            return Decision(known)
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(self.classes):
            raise ValueError("expected the number of a class")
        return Decision(known, self.classes[label])

    def summary(self) -> str:
        """Return a line on what was decided."""
        counts = self.progress()["counts"]
        done = f"{counts['all'] - counts['left']:,} of {counts['all']:,} cards done"
        kinds = f"{counts['keep']:,} kept, {counts['relabel']:,} relabelled, {counts['drop']:,} dropped"
        return f"{done}: {kinds}" + (f", {counts['settled']:,} settled by others" if counts["settled"] else "")

    def _warnings(self) -> list[str]:
        """Return a warning of classes that would have no example in train, and of splits that would be empty."""
        after = self._before.copy()
        for id in self.table.decisions:
            entry, label = self.table.entries[id], self.table.label(id)
            after[entry.split, entry.label] -= 1
            if label is not None:
                after[entry.split, label] += 1
        lost = sorted(self.names.get(label, label) for label in _trained(self._before) - _trained(after))
        warnings = (
            [f"no training example of {preview_list(lost)} would be left, so training would fail"] if lost else []
        )
        empty = {split for split, _ in self._before if split} - {split for (split, _), n in after.items() if n > 0}
        warnings += [f"the split {split} would be empty, so training would fail" for split in sorted(empty)]
        return [printable(warning) for warning in warnings]

    def _is_settled(self, card: Card) -> bool:
        if card.id in self.table.decisions:
            return False
        return card.is_settled(self.table.label, lambda id: self.table.entries[id].split)

    def _example(self, id: str) -> dict[str, Any]:
        entry = self.table.entries[id]
        return {"id": printable(id, MAX_SHOWN), "label": self._class_numbers[entry.label], "split": entry.split}

    def _card(self, card: Card) -> dict[str, Any]:
        return {
            "example": self._numbers[card.id],
            "partners": [self._numbers[id] for id in card.partners()],
            "reasons": [self._reason(reason) for reason in card.reasons],
        }

    def _reason(self, reason: Reason) -> dict[str, Any]:
        return {
            "finding": reason.finding,
            "text": printable(reason.text),
            "suggested": self._class_numbers.get(reason.suggested) if reason.suggested is not None else None,
            "probability": reason.probability,
        }

    def _class(self, label: str) -> dict[str, str]:
        return {"label": printable(label, MAX_SHOWN), "name": printable(self.names.get(label, label), MAX_SHOWN)}

    def _decision(self, decision: Decision | None) -> dict[str, Any] | None:
        if decision is None:
            return None
        label = None if decision.label is None else self._class_numbers[decision.label]
        return {"kind": decision.kind, "label": label}


def _trained(counts: Counter[tuple[str, str]]) -> set[str]:
    """Return the classes that have a training example."""
    return {label for (split, label), count in counts.items() if split == "train" and count > 0}
