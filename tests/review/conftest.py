from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from flowerml.data.layout import Row
from flowerml.review import cards
from flowerml.review.session import Session, Texts
from flowerml.review.table import Entry, LabelTable

ROWS = {
    row.id: row
    for row in (
        Row("rose/1.jpg", "rose", "train"),
        Row("rose/2.jpg", "rose", "train"),
        Row("rose/3.jpg", "rose", "test"),
        Row("tulip/1.jpg", "tulip", "train"),
        Row("tulip/2.jpg", "tulip", "valid"),
        Row("tulip/3.jpg", "tulip", "test"),
    )
}
NAMES = {"rose": "Rose", "tulip": "<b>Tulip</b>"}


def finding(name: str, *groups: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return a finding as checks.json has it."""
    ids = [id for group in groups for id in group]
    listed = {"groups": [list(group) for group in groups]} if any(len(group) > 1 for group in groups) else {}
    return {"name": name, "ids": ids, "notes": {}, **listed, **more}


FINDINGS = [
    finding("conflicting_label", ["rose/1.jpg", "tulip/1.jpg"]),
    finding("near_leak", ["rose/2.jpg", "rose/3.jpg"]),
    finding(
        "label_error",
        ["tulip/2.jpg"],
        ["rose/2.jpg"],
        suggestions={
            "tulip/2.jpg": {"label": "rose", "probability": 0.97},
            "rose/2.jpg": {"label": "tulip", "probability": 0.9},
        },
    ),
]
MISTAKES = [cards.Mistake("tulip/3.jpg", "rose", 0.99, 0.01)]


@pytest.fixture
def make_session(tmp_path) -> Callable[..., Session]:
    """Return a function that makes the session of six examples with five findings."""

    def make(path: Path = tmp_path / "labels.csv", **more: Any) -> Session:
        table = LabelTable(path, [Entry(row.id, row.label, row.split or "") for row in ROWS.values()], **more)
        texts = Texts("<i>flowers</i>", "picture", "flowerml train garden --set data.split.table=labels.csv")
        all_cards = cards.build(ROWS, FINDINGS, MISTAKES, NAMES)
        return Session(all_cards, table, names=NAMES, texts=texts, view=lambda id: f"<script>{id}</script>")

    return make
