"""The moves of a registered model's aliases, one tag each; MLflow itself only knows which version has an alias now.

A list in one tag would lose a move where two processes append to it at once, as MLflow cannot compare and swap. Older
versions of flowerml wrote such a list, the tag HISTORY. It is still read, but no longer written.
"""

import getpass
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

if TYPE_CHECKING:
    from mlflow import MlflowClient

HISTORY = "history"
PREFIX = "move."
MAX_TAG = 5000  # characters: the size of a registered model's tag in MLflow's tables
MAX_WHY = 300
MAX_WHO = 100
NUMBER = re.compile("[0-9]+")

# How an alias was moved.
GATE = "gate"
AGAIN = "gate, asked again"
EXPERIMENT = "gate, by an experiment"
FORCED = "forced"
BACK = "rolled back"
SETTLED = "settled"  # between versions that were exported at the same time
BY_HAND = (FORCED, BACK)


@dataclass(frozen=True)
class Move:
    """An alias given to a version that had been compared with `previous`; `key` is the tag that records it.

    `previous` is None where no version had the alias. `at` is in UTC, in ISO 8601.
    """

    alias: str
    version: str
    previous: str | None
    how: str
    why: str
    at: str = ""
    who: str = ""
    key: str = ""

    @classmethod
    def from_json(cls, values: Any, key: str = "") -> Self | None:
        """Return a recorded move; None for what a person has damaged."""
        if not isinstance(values, dict) or not NUMBER.fullmatch(str(values.get("version"))):
            return None
        texts = {name: str(values.get(name) or "") for name in ("alias", "version", "how", "why", "at", "who")}
        return cls(**texts, previous=values["from"] and str(values["from"]) if "from" in values else None, key=key)

    def to_json(self) -> str:
        """Return the value of the tag, which is shortened where it would not fit."""
        values = {"from" if name == "previous" else name: value for name, value in asdict(self).items()}
        del values["key"]
        while len(text := json.dumps(values)) > MAX_TAG and values["why"]:
            values["why"] = values["why"][: len(values["why"]) // 2]
        return text


def moves(client: "MlflowClient", name: str) -> list[Move]:
    """Return the moves of a registered model's aliases, newest last."""
    tags = client.get_registered_model(name).tags
    recorded = [Move.from_json(_json(tags[key]), key) for key in sorted(tags) if key.startswith(PREFIX)]
    return [move for move in (*_former_list(tags.get(HISTORY, "[]")), *recorded) if move is not None]


def record(client: "MlflowClient", name: str, move: Move) -> Move:
    """Add a move to the history, and return it as it is recorded: later than every other move.

    The clocks of two machines may differ, and the order of moves is what a rollback depends on.
    """
    now = datetime.now(UTC)
    if times := [time for other in moves(client, name) if (time := _time(other.at)) is not None]:
        now = max(now, max(times) + timedelta(microseconds=1))
    key = f"{PREFIX}{now:%Y%m%dT%H%M%S.%fZ}-{uuid4().hex[:12]}"
    at = now.isoformat(timespec="microseconds")
    recorded = replace(move, at=at, who=user()[:MAX_WHO], why=move.why[:MAX_WHY], key=key)
    client.set_registered_model_tag(name, key, recorded.to_json())
    return recorded


def earlier_versions(recorded: Iterable[Move], alias: str, current: str) -> list[str]:
    """Return the versions that had an alias before the current one, latest first.

    Left out are those that were rolled back from, and those that lost to a version exported at the same time.

    >>> recorded = [
    ...     Move("champion", "1", previous=None, how=GATE, why=""),
    ...     Move("champion", "2", previous="1", how=GATE, why=""),
    ...     Move("champion", "3", previous="2", how=GATE, why=""),
    ...     Move("champion", "2", previous="3", how=BACK, why=""),
    ... ]
    >>> earlier_versions(recorded, "champion", "2")
    ['1']
    """
    holders: list[str] = []
    unrecorded: set[str] = set()
    for move in recorded:
        if move.alias != alias:
            continue
        if move.how == BACK and move.version in holders:
            _cut_after(holders, move.version)
        elif move.version in unrecorded and [move.previous] != holders[-1:]:
            unrecorded.remove(move.version)  # recorded after the move of a version that was judged against it
            if move.previous and move.previous not in holders:
                holders.insert(holders.index(move.version), move.previous)
        else:
            if move.previous in holders:
                _cut_after(holders, move.previous)  # what came between was moved at the same time, and lost
            elif move.previous:
                holders.append(move.previous)  # moved outside flowerml, or not recorded yet
                unrecorded.add(move.previous)
            if holders[-1:] != [move.version]:
                holders.append(move.version)
    while holders[-1:] == [current]:
        holders.pop()
    return [version for version in reversed(holders) if version != current]


def now() -> str:
    """Return the time in UTC, as notes of a version have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def user() -> str:
    """Return the name of the user whom a move is recorded for."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _former_list(tag: str) -> list[Move | None]:
    values = _json(tag)
    return [Move.from_json(value) for value in values] if isinstance(values, list) else []


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # edited by hand
        return None


def _time(at: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(at)
    except ValueError:
        return None
    return time if time.tzinfo else None


def _cut_after(holders: list[str], version: str) -> None:
    """Remove what follows the last occurrence of a version, in place."""
    del holders[len(holders) - holders[::-1].index(version) :]
