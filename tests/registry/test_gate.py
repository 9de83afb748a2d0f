"""The gate: its rules, and a real registry whose alias it moves."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.config.params import Gate
from flowerml.registry import history, promotion
from flowerml.registry.gate import Candidate, collapsed, evaluate_gate

LIMITS = Gate(margin=0.02, max_recall_drop=0.2, max_ece=None, max_bytes=None)
CLASSES = ("daisy", "rose", "tulip")
EACH = 40  # test examples of a class


def answers(*wrong, each=EACH, classes=CLASSES, test=""):
    """Return answers to `each` examples of every class; `wrong` are the positions of the mistakes."""
    actual = [label for label in classes for _ in range(each)]
    ids = [f"{test}{number}" for number in range(len(actual))]
    table = pd.DataFrame({"id": ids, "actual": actual, "predicted": actual})
    next_class = dict(zip(classes, classes[1:] + classes[:1], strict=True))
    table.loc[list(wrong), "predicted"] = table.loc[list(wrong), "actual"].map(next_class)
    return table


def candidate(version, table, *, test="", **fields):
    accuracy = float((table["actual"] == table["predicted"]).mean())
    return Candidate(version, accuracy, f"test {test}", CLASSES, table, **{"ece": 0.05, "size": 1000, **fields})


CHAMPION = candidate("1", answers(0, 40, 80, 81))


def decide(table, limits=LIMITS, **fields):
    return evaluate_gate(candidate("2", table, **fields), CHAMPION, limits)


def rule(decision, name):
    return next(rule for rule in decision.rules if rule.name == name)


def test_better_version_passes():
    decision = decide(answers(0))
    assert decision.promoted and decision.reason.startswith("better: ")
    assert rule(decision, "margin").value >= 0


def test_equal_version_passes():
    decision = decide(answers(0, 40, 80, 81))
    assert decision.promoted and decision.reason.startswith("as good: ")
    assert rule(decision, "margin").value == 0


def test_worse_version_fails():
    decision = decide(answers(0, 1, 40, 80, 81))
    assert not decision.promoted and not rule(decision, "accuracy").passed
    assert decision.reason.startswith("worse: test accuracy 0.9583, version 1 has 0.9667; difference -0.0083 (95 %: ")


def test_uncertain_difference_fails():
    different_mistakes = answers(5, 45, 85, 86)
    decision = decide(different_mistakes)
    assert not decision.promoted and rule(decision, "accuracy").passed
    assert rule(decision, "margin").value < -0.02
    assert decision.reason.endswith(", lower end must be at least -0.0200")
    assert decide(different_mistakes, LIMITS.model_copy(update={"margin": 0.1})).promoted


def test_collapsed_class_fails():
    champion = candidate("1", answers(*range(40, 80)))  # every rose is a mistake
    new = candidate("2", answers(*range(20, 40)))  # half of the daisies are
    decision = evaluate_gate(new, champion, LIMITS)
    assert not decision.promoted and decision.reason.startswith("better: ")
    assert rule(decision, "recall").value == 0.5
    assert decision.reason.endswith("; but class 'daisy' (recall 0.50, was 1.00, 40 examples): collapsed")
    assert evaluate_gate(new, champion, LIMITS.model_copy(update={"max_recall_drop": None})).promoted


def test_not_comparable_is_not_promoted():
    decision = decide(answers(test="other "), test="other")
    assert (decision.promoted, decision.comparable) == (False, False)
    assert decision.reason == "different test set from version 1: not comparable"
    new = replace(CHAMPION, version="2", classes=("daisy", "rose"))
    decision = evaluate_gate(new, CHAMPION, LIMITS)
    assert (decision.promoted, decision.comparable) == (False, False)
    assert decision.reason == "different classes from version 1: not comparable"


def test_sample_yields_to_real_data():
    sample, new = replace(CHAMPION, source="sample"), candidate("2", answers(*range(60)), test="other", source="a/b")
    decision = evaluate_gate(new, sample, LIMITS)
    assert decision.promoted
    assert decision.reason == "version 1 was trained on the embedded sample and yields to real data"
    decision = evaluate_gate(new, sample, LIMITS.model_copy(update={"max_bytes": 900}))
    assert not decision.promoted and decision.reason.endswith("yields to real data; but size 1,000 bytes (limit 900)")


@pytest.mark.parametrize("source", ["a/b", None])
def test_real_data_never_yields_to_sample(source):
    new = candidate("2", answers(), test="other", source="sample")
    decision = evaluate_gate(new, replace(CHAMPION, source=source), LIMITS)
    assert (decision.promoted, decision.comparable) == (False, False)
    assert decision.reason == "trained on the embedded sample, and version 1 was not: not comparable"


def test_unknown_source_takes_nothing_from_sample():
    new = candidate("2", answers(), test="other", source=None)
    assert not evaluate_gate(new, replace(CHAMPION, source="sample"), LIMITS).promoted


def test_limits_hold_without_a_champion():
    limits = LIMITS.model_copy(update={"max_ece": 0.04, "max_bytes": 900})
    decision = evaluate_gate(CHAMPION, None, limits)
    assert not decision.promoted
    assert decision.reason == (
        "there was no champion to compare with; but calibration error 0.0500 (limit 0.0400); "
        "size 1,000 bytes (limit 900)"
    )
    assert not evaluate_gate(replace(CHAMPION, ece=None), None, limits.model_copy(update={"max_bytes": None})).promoted


@pytest.mark.parametrize("champion_answers", [None, answers(0, test="other "), answers(0, each=39)])
def test_without_paired_answers(champion_answers):
    champion = replace(CHAMPION, answers=champion_answers)
    decision = evaluate_gate(candidate("2", answers(5, 45, 85, 86)), champion, LIMITS)
    assert decision.promoted and "not judged: no predictions of version 1 on the same examples" in decision.reason
    assert rule(decision, "margin").passed is None and rule(decision, "recall").passed is None


def draws(recalls, each, generator):
    """Return the answers of two equally good classifiers with independent mistakes."""
    classes = tuple(f"class {number:03}" for number in range(len(recalls)))
    hits = [generator.random((len(recalls), each)) < recalls[:, None] for _ in range(2)]
    return [answers(*np.flatnonzero(~hit.ravel()), each=each, classes=classes) for hit in hits]


def test_no_collapse_by_chance():
    generator = np.random.default_rng(0)
    alarms = sum(bool(collapsed(*draws(generator.uniform(0.6, 1, 102), 8, generator), max_drop=0.2)) for _ in range(40))
    assert alarms <= 2


def test_lost_class_is_found():
    classes = tuple(f"class {number:03}" for number in range(102))
    old, new = answers(each=8, classes=classes), answers(*range(80, 88), each=8, classes=classes)
    (collapse,) = collapsed(new, old, max_drop=0.2)
    assert str(collapse) == "class 'class 010' (recall 0.00, was 1.00, 8 examples)"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    client.create_experiment("gate", artifact_location=str(folder / "artifacts"))
    return client


@pytest.fixture(autouse=True)
def registry(client, monkeypatch):
    """Let classifiers be loaded from the registry of these tests, wherever it is asked."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)


@pytest.fixture
def register(client, tmp_path, request):
    """Register versions with their answers, as `export` does; each call returns what the gate is given."""
    name = request.node.name[:60]
    client.create_registered_model(name)

    def with_answers(table, *, logged=True, **fields):
        run = client.create_run(client.get_experiment_by_name("gate").experiment_id)
        if logged:
            table.to_csv(tmp_path / "predictions.csv", index=False)
            client.log_artifact(run.info.run_id, str(tmp_path / "predictions.csv"), "reports")
        version = client.create_model_version(name, run.info.artifact_uri, run.info.run_id)
        new = candidate(str(version.version), table, **fields)
        tags = {"accuracy": new.accuracy, "test_digest": new.test_digest, "classes": json.dumps(CLASSES)}
        for key, value in tags.items():
            client.set_model_version_tag(name, new.version, key, str(value))
        return new

    with_answers.name = name
    return with_answers


def champion(client, name):
    return str(client.get_model_version_by_alias(name, "champion").version)


def submit(client, register, table, **fields):
    return promotion.submit(client, register.name, "champion", register(table, **fields), LIMITS)


def test_decisions_of_a_registry(client, register):
    base = answers(*range(40, 60), 0)
    submissions = [
        ("there was no champion", base, {}, "1"),
        ("worse: ", answers(*range(40, 60), 0, 1), {}, "1"),
        ("as good: ", base, {}, "3"),
        ("better: test accuracy 0.9000", answers(*range(0, 12)), {}, "3"),
        ("better: test accuracy 0.8833", answers(*range(40, 54)), {}, "5"),
        ("different test set from version 5, and the test examples", answers(test="new "), {"test": "new"}, "5"),
    ]
    for number, (reason, table, fields, holder) in enumerate(submissions, 1):
        decision = submit(client, register, table, **fields)
        assert decision.reason.startswith(reason)
        assert champion(client, register.name) == holder
        tags = client.get_model_version(register.name, str(number)).tags
        assert tags["reason"] == decision.reason
        assert tags["verdict"] == ("promoted" if holder == str(number) else "not promoted")
    assert client.get_model_version(register.name, "4").tags["gate.recall"] == "failed"


def test_answers_not_logged(client, register):
    submit(client, register, answers(0, 40), logged=False)
    decision = submit(client, register, answers(5, 45))
    assert decision.promoted and rule(decision, "margin").passed is None


def test_champion_registered_by_hand(client, register):
    client.create_model_version(register.name, "elsewhere")
    client.set_registered_model_alias(register.name, "champion", "1")
    decision = submit(client, register, answers(0))
    assert not decision.promoted and champion(client, register.name) == "1"
    assert decision.reason.endswith(f"; `flowerml promote {register.name} 2 --force` promotes it anyway")


def test_killed_export_is_marked(client, register):
    submit(client, register, answers(0))
    killed = client.get_model_version(register.name, register(answers(1)).version)
    assert promotion.mark_interrupted(client, register.name) == []  # its run may still be going on
    client.set_terminated(killed.run_id, "KILLED")
    assert promotion.mark_interrupted(client, register.name) == ["2"]
    assert client.get_model_version(register.name, "2").tags["verdict"] == "not judged"


@pytest.fixture
def run(client, monkeypatch, tmp_path):
    """Run commands in a folder without params.yaml, on the registry of these tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def test_worse_version_needs_force(client, register, run):
    submit(client, register, answers(0))
    submit(client, register, answers(0, 1))
    refused = run("promote", register.name, 2)
    assert refused.exit_code == 1 and refused.stderr.count("\n") == 1
    assert "did not pass the gate: worse: " in refused.stderr and champion(client, register.name) == "1"
    forced = run("promote", register.name, 2, "--force", "--why", "it is faster")
    assert forced.stdout == f"{register.name}@champion is now version 2, by force, was version 1\n"
    assert champion(client, register.name) == "2"
    assert client.get_model_version(register.name, "2").tags["forced"].endswith(": it is faster")
    listed = run("models", register.name).stdout
    assert " forced " in listed and "version 2: worse: test accuracy 0.9833, version 1 has 0.9917" in listed


def test_rollback_step_by_step(client, register, run):
    for mistakes in ((0, 1, 2), (0, 1), (0,)):
        submit(client, register, answers(*mistakes))
    assert run("rollback", register.name).stdout == f"{register.name}@champion is version 2 again, was version 3\n"
    client.delete_model_version(register.name, "3")
    assert run("rollback", register.name).exit_code == 0 and champion(client, register.name) == "1"
    nothing_before = run("rollback", register.name)
    assert nothing_before.exit_code == 1 and "has no version before 1" in nothing_before.stderr
    moves = history.moves(client, register.name)
    assert [(move.how, move.previous, move.version) for move in moves] == [
        ("gate", None, "1"),
        ("gate", "1", "2"),
        ("gate", "2", "3"),
        ("rolled back", "3", "2"),
        ("rolled back", "2", "1"),
    ]
    assert run("promote", register.name, 2).exit_code == 0  # through the gate once more


def test_rollback_after_a_move_by_hand(client, register, run):
    submit(client, register, answers(0))
    submit(client, register, answers(0, 1))
    client.set_registered_model_alias(register.name, "champion", "2")
    run("promote", register.name, 1, "--force")
    assert run("rollback", register.name).stdout.startswith(f"{register.name}@champion is version 2 again")


def test_every_move_is_kept(client, register):
    register(answers(0))
    register(answers(0))
    for number in range(30):
        promotion.force_promote(client, register.name, "champion", str(1 + number % 2), LIMITS, why="\N{ROSE}" * 400)
    moves = history.moves(client, register.name)
    assert [move.version for move in moves] == ["1", "2"] * 15
    assert max(map(len, client.get_registered_model(register.name).tags.values())) <= history.MAX_TAG
    assert moves[-1].why == "\N{ROSE}" * history.MAX_WHY


def test_rollback_by_the_former_list(client, register, run):
    for _ in range(3):
        register(answers(0))
    client.set_registered_model_alias(register.name, "champion", "3")
    moves = [
        {"at": "2026-01-01T00:00:00+00:00", "alias": "champion", "version": new, "from": old, "how": "gate"}
        for old, new in ((None, "1"), ("1", "2"), ("2", "3"))
    ]
    client.set_registered_model_tag(register.name, history.HISTORY, json.dumps(moves))
    assert run("rollback", register.name).exit_code == 0 and champion(client, register.name) == "2"
    assert run("rollback", register.name).exit_code == 0 and champion(client, register.name) == "1"
    assert run("rollback", register.name).exit_code == 1
    assert json.loads(client.get_registered_model(register.name).tags[history.HISTORY]) == moves
    assert [move.how for move in history.moves(client, register.name)] == ["gate"] * 3 + ["rolled back"] * 2


@pytest.mark.parametrize(
    "tag",
    ["{", "3", '["no move", {"alias": "champion"}]', '{"alias": "champion", "version": "two"}'],
    ids=["torn", "number", "no moves", "no version"],
)
def test_damaged_history_is_skipped(client, register, tag):
    submit(client, register, answers(0))
    for key in (history.HISTORY, f"{history.PREFIX}by hand"):
        client.set_registered_model_tag(register.name, key, tag)
    assert [move.version for move in history.moves(client, register.name)] == ["1"]


def test_clock_that_is_behind(client, register):
    submit(client, register, answers(0))
    later = replace(history.moves(client, register.name)[0], version="7", at="2099-01-01T00:00:00+00:00")
    client.set_registered_model_tag(register.name, f"{history.PREFIX}20990101T000000.000000Z-0", later.to_json())
    submit(client, register, answers(0))
    assert [move.version for move in history.moves(client, register.name)] == ["1", "7", "2"]


@pytest.mark.parametrize("arguments", [("promote", "nothing", 1), ("rollback", "nothing")])
def test_unregistered_model_is_one_line(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 1 and "not found" in result.stderr and result.stderr.count("\n") == 1
