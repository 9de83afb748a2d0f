"""Who has an alias such as `champion`: given by the gate, by hand or by force, taken back, and each time written down.

The trace is a JSON list in the tag HISTORY of the registered model, the newest last; the oldest moves fall out of it
where it would outgrow what a database keeps of a tag.
"""

import getpass
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowerml.core.errors import ModelError
from flowerml.registry import client as registered
from flowerml.registry.gate import Candidate, Decision, evaluate_gate
from flowerml.tasks.pipelines import export_section_for

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from flowerml.config.params import Gate

HISTORY = "history"
LONGEST_TAG = 5000  # characters: what MLflow's tables keep of a registered model's tag
LONGEST_WHY = 300
LONGEST_REASON = 2000
ATTEMPTS = 5
INTERRUPTED = ("KILLED", "FAILED")
ANSWERS = "reports/predictions.csv"
GATE, AGAIN, FORCED, BACK = "gate", "gate, asked again", "forced", "rolled back"


def promote(name: str, version: str, *, alias: str | None, forced: bool, why: str) -> str:
    """Give a version the alias, through the gate or by force; gives what happened, in a line. Raises ModelError."""
    section = export_section_for(name)
    alias = alias or section.alias
    with registered.mlflow_errors(f"{name} version {version}: "):
        from mlflow import MlflowClient

        client = MlflowClient()
        found = client.get_model_version(name, version)
        holder = current_version(client, name, alias)
        if holder is not None and str(holder.version) == version:
            return f"{name}@{alias} is version {version} already"
        before = f", and was {holder.version}" if holder else ""
        if forced:
            force_promote(client, name, alias, version, why=why)
            return f"{name}@{alias} is version {version} now, by force{before}"
        new = candidate_of(client, found)
        if new.accuracy is None or new.test_digest is None:
            raise ModelError(
                f"{name} version {version}: was registered without telling how good it is, and on what, so the gate "
                "cannot judge it; --force moves the alias anyway"
            )
        verdict = submit(client, name, alias, new, section.gate, how=AGAIN)
    if not verdict.promoted:
        raise ModelError(f"{name} version {version} is not let through: {verdict.reason}; --force moves {alias} anyway")
    return f"{name}@{alias} is version {version} now{before} ({verdict.reason})"


def rollback(name: str, *, alias: str | None, why: str) -> tuple[str, str, str]:
    """Give the alias back to the version that had it before; gives (from, to, alias). Raises ModelError."""
    alias = alias or export_section_for(name).alias
    with registered.mlflow_errors(f"{name}@{alias}: "):
        from mlflow import MlflowClient

        client = MlflowClient()
        client.get_registered_model(name)
        return (*rollback_alias(client, name, alias, why=why), alias)


def submit(
    client: "MlflowClient", name: str, alias: str, new: Candidate, limits: "Gate", *, how: str = GATE
) -> Decision:
    """Judge a registered version against the one that has the alias, and give it the alias if it is let through.

    The verdict stands in the version's tags. Where the alias moves meanwhile, the version is judged anew.
    """
    for _ in range(ATTEMPTS):
        holder = current_version(client, name, alias)
        verdict = evaluate_gate(new, None if holder is None else candidate_of(client, holder), limits)
        now = current_version(client, name, alias)
        if (holder and holder.version) == (now and now.version):
            break
    passed = {True: "passed", False: "failed", None: "not judged"}
    tags = {"verdict": "promoted" if verdict.promoted else "not promoted", "reason": verdict.reason[:LONGEST_REASON]}
    tags |= {f"gate.{rule.name}": passed[rule.passed] for rule in verdict.rules}
    for key, value in tags.items():
        client.set_model_version_tag(name, new.version, key, value)
    if verdict.promoted:
        _move(client, name, alias, new.version, how=how, why=verdict.reason)
    return verdict


def mark_interrupted(client: "MlflowClient", name: str) -> list[str]:
    """Tag the versions whose export was killed before the gate judged them; gives their numbers."""
    found = [
        str(one.version)
        for one in registered.all_versions(client, name)
        if "verdict" not in one.tags and one.run_id and client.get_run(one.run_id).info.status in INTERRUPTED
    ]
    for version in found:
        client.set_model_version_tag(name, version, "verdict", "not judged")
        client.set_model_version_tag(name, version, "reason", "its export was interrupted; export it again")
    return found


def force_promote(client: "MlflowClient", name: str, alias: str, version: str, *, why: str) -> None:
    """Give a version the alias whatever the gate says; a tag of the version says who did, when and why."""
    note = f"{_now()} by {_who()}: {why[:LONGEST_WHY] or 'no reason was given'}"
    client.set_model_version_tag(name, version, "forced", note)
    client.set_model_version_tag(name, version, "verdict", "forced")
    _move(client, name, alias, version, how=FORCED, why=why)


def rollback_alias(client: "MlflowClient", name: str, alias: str, *, why: str) -> tuple[str, str]:
    """Give the alias back to the version that had it before; gives both, (from, to). Raises ModelError.

    A version that was removed meanwhile is passed over. Rolled back again, it goes one version further.
    """
    holder = current_version(client, name, alias)
    if holder is None:
        raise ModelError(f"{name}@{alias}: no version has this alias, so there is none to take it from")
    current = str(holder.version)
    earlier = _before(history(client, name), alias, current)
    candidates = [version for version in earlier if _exists(client, name, version)]
    if not candidates:
        raise ModelError(
            f"{name}@{alias}: the trace knows of no version before {current}; give the alias to one with "
            f"flowerml promote {name} VERSION --force"
        )
    _move(client, name, alias, candidates[0], how=BACK, why=why)
    client.set_model_version_tag(name, current, "rolled_back", f"{_now()} by {_who()}, to version {candidates[0]}")
    return current, candidates[0]


def current_version(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    """The version that has the alias, None where none has."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            return None
        raise


def candidate_of(client: "MlflowClient", found: "ModelVersion") -> Candidate:
    """What the gate compares of a registered version; of one that was registered by hand, little is known."""
    tags = found.tags
    accuracy, ece, size = (tags.get(name) for name in ("accuracy", "ece", "classifier_bytes"))
    return Candidate(
        version=str(found.version),
        accuracy=float(accuracy) if accuracy else None,
        test_digest=tags.get("test_digest"),
        classes=tuple(json.loads(tags.get("classes", "[]"))),
        answers=_answers(client, found.run_id),
        ece=float(ece) if ece else None,
        size=int(size) if size else None,
    )


def read_answers(path: Path) -> "pd.DataFrame":
    """The table of answers that `evaluate` wrote, as the gate takes it: id, actual and predicted, all as texts."""
    import pandas as pd

    return pd.read_csv(path, usecols=["id", "actual", "predicted"], dtype=str, keep_default_na=False)


def history(client: "MlflowClient", name: str) -> list[dict[str, Any]]:
    """The moves of a registered model's aliases, the newest last: at, alias, version, from, how, who, why."""
    try:
        found = json.loads(client.get_registered_model(name).tags.get(HISTORY, "[]"))
    except ValueError:  # someone has edited it by hand
        return []
    return [one for one in found if isinstance(one, dict) and "version" in one] if isinstance(found, list) else []


def _move(client: "MlflowClient", name: str, alias: str, version: str, *, how: str, why: str) -> None:
    holder = current_version(client, name, alias)
    client.set_registered_model_alias(name, alias, version)
    move = {
        **{"at": _now(), "alias": alias, "version": version, "from": str(holder.version) if holder else None},
        **{"how": how, "who": _who(), "why": why[:LONGEST_WHY]},
    }
    moves = [*history(client, name), move]
    while len(moves) > 1 and len(json.dumps(moves)) > LONGEST_TAG:
        moves.pop(0)
    client.set_registered_model_tag(name, HISTORY, json.dumps(moves))


def _before(moves: list[dict[str, Any]], alias: str, current: str) -> list[str]:
    """The versions that had an alias before the current one, the last first; what was rolled back does not count."""
    held: list[str] = []
    for move in moves:
        if move.get("alias") != alias:
            continue
        version, origin = move["version"], move.get("from")
        if origin and held[-1:] != [origin]:
            held.append(origin)  # which the trace did not see, or has forgotten
        if move.get("how") == BACK and version in held:
            del held[len(held) - held[::-1].index(version) :]
        else:
            held.append(version)
    while held[-1:] == [current]:
        held.pop()
    return [version for version in reversed(held) if version != current]


def _exists(client: "MlflowClient", name: str, version: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _answers(client: "MlflowClient", run: str | None) -> "pd.DataFrame | None":
    """The answers that were logged with a version; None where they are not to be had."""
    from mlflow.exceptions import MlflowException

    if not run:
        return None
    with tempfile.TemporaryDirectory(prefix="flowerml-") as folder:
        try:
            return read_answers(Path(client.download_artifacts(run, ANSWERS, folder)))
        except (MlflowException, OSError, ValueError):
            return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
