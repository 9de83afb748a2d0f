"""Moving an alias such as `champion`: through the gate, by force, or back.

MLflow cannot compare and swap an alias. So whoever moves one records the move and then looks for moves that were made
meanwhile: see `flowerml.registry.contest`.
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.config.paths import Paths
from flowerml.core.errors import ModelError
from flowerml.data.examples import Examples
from flowerml.registry import contest, history
from flowerml.registry.candidates import candidate_of, read_answers
from flowerml.registry.client import all_versions, current_version, mlflow_errors, set_version_tags, version_exists
from flowerml.registry.contest import Contest
from flowerml.registry.gate import Candidate, Decision
from flowerml.tasks.pipelines import export_section_for

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from flowerml.config.params import Gate

__all__ = ["mark_interrupted", "not_judged", "promote", "read_answers", "rollback", "submit"]

INTERRUPTED = ("KILLED", "FAILED")


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
            force_promote(client, name, alias, version, section.gate, why=why)
            return f"{name}@{alias} is now version {version}, by force{before}"
        new = candidate_of(client, record)
        if new.accuracy is None or new.test_digest is None:
            raise ModelError(
                f"{name} version {version}: the gate cannot judge it, as its accuracy and test set are not recorded; "
                "--force moves the alias anyway"
            )
        examples = _examples_of(record)
        decision = submit(client, name, alias, new, section.gate, test=examples, how=history.AGAIN)
    if not decision.promoted:
        advice = f"; --force moves {alias} anyway" if decision.comparable else ""
        raise ModelError(f"{name} version {version} did not pass the gate: {decision.reason}{advice}")
    return f"{name}@{alias} is now version {version}{before} ({decision.reason})"


def rollback(name: str, *, alias: str | None, why: str) -> tuple[str, str, str]:
    """Return the alias to the version that had it before; return (from, to, alias). Raises ModelError."""
    section = export_section_for(name)
    alias = alias or section.alias
    with mlflow_errors(f"{name}@{alias}: "):
        from mlflow import MlflowClient

        client = MlflowClient()
        client.get_registered_model(name)
        return (*rollback_alias(client, name, alias, section.gate, why=why), alias)


def submit(
    client: "MlflowClient",
    name: str,
    alias: str,
    new: Candidate,
    limits: "Gate",
    *,
    test: Examples | None = None,
    takes: contest.Takes = "any",
    how: str = history.GATE,
) -> Decision:
    """Judge a registered version against the one that has the alias, and give it the alias if it passes.

    `test` are the examples that the new version was measured on; the champion is scored on them where it was measured
    on others. `takes` is which champion it may replace. The decision is recorded in the version's tags.
    """
    return contest.finish(contest.submission(Contest(client, name, alias, limits, test), new, takes=takes, how=how))


def not_judged(client: "MlflowClient", name: str, version: str, why: str) -> Decision:
    """Record of a version that the gate cannot judge it, and why; return the decision, with the command to go on."""
    reason = (
        f"the gate cannot judge it: {why}; `flowerml promote {shlex.quote(name)} {version} --force` promotes it anyway"
    )
    set_version_tags(client, name, version, {"verdict": "not judged", "reason": reason})
    return Decision(False, reason, (), comparable=False)


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
        why = "its registration was interrupted; register it again"
        set_version_tags(client, name, version, {"verdict": "not judged", "reason": why})
    return interrupted


def force_promote(client: "MlflowClient", name: str, alias: str, version: str, limits: "Gate", *, why: str) -> None:
    """Give a version the alias whatever the gate says; a tag of the version records who did it, when and why.

    `limits` are for versions that are submitted at the same time. Raises ModelError where one of those gets it.
    """
    reason = why[: history.MAX_WHY] or "no reason given"
    note = f"{history.now()} by {history.user()}: {reason}"
    set_version_tags(client, name, version, {"forced": note, "verdict": "forced"})
    _move_by_hand(Contest(client, name, alias, limits), version, how=history.FORCED, why=why)


def rollback_alias(client: "MlflowClient", name: str, alias: str, limits: "Gate", *, why: str) -> tuple[str, str]:
    """Return the alias to the version that had it before; return both versions, (from, to). Raises ModelError.

    Deleted versions are skipped. Another rollback goes one version further back.
    """
    holder = current_version(client, name, alias)
    if holder is None:
        raise ModelError(f"{name}@{alias}: no version has this alias, so there is nothing to roll back")
    current = str(holder.version)
    earlier = history.earlier_versions(history.moves(client, name), alias, current)
    existing = next((version for version in earlier if version_exists(client, name, version)), None)
    if existing is None:
        raise ModelError(
            f"{name}@{alias}: the history has no version before {current}; choose one with "
            f"flowerml promote {name} VERSION --force"
        )
    _move_by_hand(Contest(client, name, alias, limits), existing, how=history.BACK, why=why)
    note = f"{history.now()} by {history.user()}, to version {existing}"
    set_version_tags(client, name, current, {"rolled_back": note})
    return current, existing


def _move_by_hand(contested: Contest, version: str, *, how: str, why: str) -> None:
    holder = contest.finish(contest.by_hand(contested, version, how=how, why=why))
    if holder != version:
        raise ModelError(
            f"{contested.name}@{contested.alias}: moved to version {version}, and by somebody else to version {holder} "
            "at the same time; repeat the command to overrule that"
        )


def _examples_of(record: "ModelVersion") -> Examples | None:
    """Return the examples that a version was measured on, where the project in this folder has them."""
    pipeline = record.tags.get("pipeline", "")
    examples = Examples(Paths(pipeline).examples)
    if Path(pipeline).name != pipeline or not examples.path.exists():
        return None
    try:
        digest = examples.digest("test")
    except (OSError, ValueError):  # not a table of examples
        return None
    return examples if digest == record.tags.get("test_digest") else None
