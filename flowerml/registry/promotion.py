"""Moving an alias such as `champion`: through the gate, by force, or back, with a history of every move.

The history is a JSON list in the tag HISTORY of the registered model, newest last; the oldest moves are dropped where
it would outgrow a tag. MLflow itself only knows which version has an alias now.
"""

import getpass
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowerml.core.errors import ModelError
from flowerml.registry.client import all_versions, mlflow_errors
from flowerml.registry.gate import Candidate, Decision, evaluate_gate
from flowerml.tasks.pipelines import export_section_for

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from flowerml.config.params import Gate

HISTORY = "history"
MAX_TAG = 5000  # characters: the size of a registered model's tag in MLflow's tables
MAX_WHY = 300
MAX_REASON = 2000
ATTEMPTS = 5  # to judge a version while others move the alias
INTERRUPTED = ("KILLED", "FAILED")
ANSWERS = "reports/predictions.csv"
GATE, AGAIN, FORCED, BACK = "gate", "gate, asked again", "forced", "rolled back"


def promote(name: str, version: str, *, alias: str | None, forced: bool, why: str) -> str:
    """Give a version the alias, through the gate or by force; return what happened, in a line. Raises ModelError."""
    section = export_section_for(name)
    alias = alias or section.alias
    with mlflow_errors(f"{name} version {version}: "):
        from mlflow import MlflowClient

        client = MlflowClient()
        record = client.get_model_version(name, version)
        current = current_version(client, name, alias)
        if current is not None and str(current.version) == version:
            return f"{name}@{alias} is already version {version}"
        before = f", was version {current.version}" if current else ""
        if forced:
            force_promote(client, name, alias, version, why=why)
            return f"{name}@{alias} is now version {version}, by force{before}"
        new = candidate_of(client, record)
        if new.accuracy is None or new.test_digest is None:
            raise ModelError(
                f"{name} version {version}: the gate cannot judge it, as its accuracy and test set are not recorded; "
                "--force moves the alias anyway"
            )
        decision = submit(client, name, alias, new, section.gate, how=AGAIN)
    if not decision.promoted:
        raise ModelError(
            f"{name} version {version} did not pass the gate: {decision.reason}; --force moves {alias} anyway"
        )
    return f"{name}@{alias} is now version {version}{before} ({decision.reason})"


def rollback(name: str, *, alias: str | None, why: str) -> tuple[str, str, str]:
    """Return the alias to the version that had it before; return (from, to, alias). Raises ModelError."""
    alias = alias or export_section_for(name).alias
    with mlflow_errors(f"{name}@{alias}: "):
        from mlflow import MlflowClient

        client = MlflowClient()
        client.get_registered_model(name)
        return (*rollback_alias(client, name, alias, why=why), alias)


def submit(
    client: "MlflowClient", name: str, alias: str, new: Candidate, limits: "Gate", *, how: str = GATE
) -> Decision:
    """Judge a registered version against the one that has the alias, and give it the alias if it passes.

    The decision is recorded in the version's tags. If the alias moves meanwhile, the version is judged again.
    """
    for _ in range(ATTEMPTS):
        champion = current_version(client, name, alias)
        decision = evaluate_gate(new, None if champion is None else candidate_of(client, champion), limits)
        now = current_version(client, name, alias)
        if (champion and champion.version) == (now and now.version):
            break
    outcomes = {True: "passed", False: "failed", None: "not judged"}
    tags = {"verdict": "promoted" if decision.promoted else "not promoted", "reason": decision.reason[:MAX_REASON]}
    tags |= {f"gate.{rule.name}": outcomes[rule.passed] for rule in decision.rules}
    for key, value in tags.items():
        client.set_model_version_tag(name, new.version, key, value)
    if decision.promoted:
        _move(client, name, alias, new.version, how=how, why=decision.reason)
    return decision


def mark_interrupted(client: "MlflowClient", name: str) -> list[str]:
    """Tag the versions whose export was killed before the gate judged them; return their numbers."""
    interrupted = [
        str(version.version)
        for version in all_versions(client, name)
        if "verdict" not in version.tags
        and version.run_id
        and client.get_run(version.run_id).info.status in INTERRUPTED
    ]
    for version in interrupted:
        client.set_model_version_tag(name, version, "verdict", "not judged")
        client.set_model_version_tag(name, version, "reason", "its export was interrupted; export it again")
    return interrupted


def force_promote(client: "MlflowClient", name: str, alias: str, version: str, *, why: str) -> None:
    """Give a version the alias whatever the gate says; a tag of the version records who did it, when and why."""
    note = f"{_now()} by {_user()}: {why[:MAX_WHY] or 'no reason given'}"
    client.set_model_version_tag(name, version, "forced", note)
    client.set_model_version_tag(name, version, "verdict", "forced")
    _move(client, name, alias, version, how=FORCED, why=why)


def rollback_alias(client: "MlflowClient", name: str, alias: str, *, why: str) -> tuple[str, str]:
    """Return the alias to the version that had it before; return both versions, (from, to). Raises ModelError.

    Deleted versions are skipped. Another rollback goes one version further back.
    """
    holder = current_version(client, name, alias)
    if holder is None:
        raise ModelError(f"{name}@{alias}: no version has this alias, so there is nothing to roll back")
    current = str(holder.version)
    earlier = _earlier_versions(history(client, name), alias, current)
    existing = [version for version in earlier if _exists(client, name, version)]
    if not existing:
        raise ModelError(
            f"{name}@{alias}: the history has no version before {current}; choose one with "
            f"flowerml promote {name} VERSION --force"
        )
    _move(client, name, alias, existing[0], how=BACK, why=why)
    client.set_model_version_tag(name, current, "rolled_back", f"{_now()} by {_user()}, to version {existing[0]}")
    return current, existing[0]


def current_version(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    """Return the version that has the alias; None where none has."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):  # no such alias, or model
            return None
        raise


def candidate_of(client: "MlflowClient", record: "ModelVersion") -> Candidate:
    """Return what the gate compares of a registered version; little is known of one registered by hand."""
    tags = record.tags
    accuracy, ece, size = (tags.get(name) for name in ("accuracy", "ece", "classifier_bytes"))
    return Candidate(
        version=str(record.version),
        accuracy=float(accuracy) if accuracy else None,
        test_digest=tags.get("test_digest"),
        classes=tuple(json.loads(tags.get("classes", "[]"))),
        answers=_logged_answers(client, record.run_id),
        ece=float(ece) if ece else None,
        size=int(size) if size else None,
    )


def read_answers(path: Path) -> "pd.DataFrame":
    """Return the predictions that `evaluate` wrote, as the gate takes them: id, actual and predicted, all as text."""
    import pandas as pd

    return pd.read_csv(path, usecols=["id", "actual", "predicted"], dtype=str, keep_default_na=False)


def history(client: "MlflowClient", name: str) -> list[dict[str, Any]]:
    """Return the moves of a registered model's aliases, newest last: at, alias, version, from, how, who, why."""
    try:
        moves = json.loads(client.get_registered_model(name).tags.get(HISTORY, "[]"))
    except ValueError:  # edited by hand
        return []
    return [move for move in moves if isinstance(move, dict) and "version" in move] if isinstance(moves, list) else []


def _move(client: "MlflowClient", name: str, alias: str, version: str, *, how: str, why: str) -> None:
    """Move an alias and append the move to the history."""
    current = current_version(client, name, alias)
    client.set_registered_model_alias(name, alias, version)
    move = {
        "at": _now(),
        "alias": alias,
        "version": version,
        "from": str(current.version) if current else None,
        "how": how,
        "who": _user(),
        "why": why[:MAX_WHY],
    }
    moves = [*history(client, name), move]
    while len(moves) > 1 and len(json.dumps(moves)) > MAX_TAG:
        moves.pop(0)
    client.set_registered_model_tag(name, HISTORY, json.dumps(moves))


def _earlier_versions(moves: list[dict[str, Any]], alias: str, current: str) -> list[str]:
    """Return the versions that had an alias before the current one, latest first, without those rolled back from.

    >>> moves = [
    ...     {"alias": "champion", "version": "1", "from": None, "how": "gate"},
    ...     {"alias": "champion", "version": "2", "from": "1", "how": "gate"},
    ...     {"alias": "champion", "version": "3", "from": "2", "how": "gate"},
    ...     {"alias": "champion", "version": "2", "from": "3", "how": "rolled back"},
    ... ]
    >>> _earlier_versions(moves, "champion", "2")
    ['1']
    """
    holders: list[str] = []
    for move in moves:
        if move.get("alias") != alias:
            continue
        version, previous = move["version"], move.get("from")
        if previous and holders[-1:] != [previous]:
            holders.append(previous)  # moved outside flowerml, or the move was dropped from the history
        if move.get("how") == BACK and version in holders:
            del holders[len(holders) - holders[::-1].index(version) :]
        else:
            holders.append(version)
    while holders[-1:] == [current]:
        holders.pop()
    return [version for version in reversed(holders) if version != current]


def _exists(client: "MlflowClient", name: str, version: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _logged_answers(client: "MlflowClient", run_id: str | None) -> "pd.DataFrame | None":
    """Return the predictions logged with a version; None where they are missing or unreadable."""
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    with tempfile.TemporaryDirectory(prefix="flowerml-") as folder:
        try:
            return read_answers(Path(client.download_artifacts(run_id, ANSWERS, folder)))
        except (MlflowException, OSError, ValueError):
            return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
