"""The gate: what a version must hold to, in itself and against the champion of a real registry."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.config.params import Gate
from flowerml.registry import promotion
from flowerml.registry.gate import Contender, collapsed, judge

LIMITS = Gate(margin=0.02, max_recall_drop=0.2, max_ece=None, max_bytes=None)
CLASSES = ("daisy", "rose", "tulip")
EACH = 40  # test examples of a class


def answers(*wrong, each=EACH, classes=CLASSES, test=""):
    """Answers to `each` examples of every class; `wrong` are the numbers of those that are answered wrongly."""
    actual = [label for label in classes for _ in range(each)]
    ids = [f"{test}{number}" for number in range(len(actual))]
    table = pd.DataFrame({"id": ids, "actual": actual, "predicted": actual})
    others = dict(zip(classes, classes[1:] + classes[:1], strict=True))
    table.loc[list(wrong), "predicted"] = table.loc[list(wrong), "actual"].map(others)
    return table


def contender(version, table, *, test="", **known):
    accuracy = float((table["actual"] == table["predicted"]).mean())
    return Contender(version, accuracy, f"test {test}", CLASSES, table, **{"ece": 0.05, "size": 1000, **known})


CHAMPION = contender("1", answers(0, 40, 80, 81))


def verdict(table, limits=LIMITS, **known):
    return judge(contender("2", table, **known), CHAMPION, limits)


def rule(found, name):
    return next(one for one in found.rules if one.name == name)


def test_a_better_version_is_let_through():
    found = verdict(answers(0))
    assert found.promoted and found.reason.startswith("better: test accuracy 0.9917, version 1 has 0.9667; difference")
    assert rule(found, "margin").value >= 0


def test_an_equal_version_is_let_through():
    found = verdict(answers(0, 40, 80, 81))
    assert found.promoted and found.reason.startswith("as good: ")
    assert rule(found, "margin").value == 0


def test_a_worse_version_is_not_let_through():
    found = verdict(answers(0, 1, 40, 80, 81))
    assert not found.promoted and found.reason.startswith("worse: test accuracy 0.9583, version 1 has 0.9667; ")


def test_an_equally_accurate_one_with_other_mistakes_has_to_show_that_it_is_not_worse():
    other = answers(5, 45, 85, 86)
    found = verdict(other)
    assert not found.promoted and rule(found, "accuracy").passed
    assert rule(found, "margin").value < -0.02 and "at worst -0.0200 is allowed" in found.reason
    assert verdict(other, LIMITS.model_copy(update={"margin": 0.1})).promoted


def test_a_better_version_of_which_a_class_collapses_is_not_let_through():
    champion = contender("1", answers(*range(40, 80)))  # no rose is told
    found = judge(contender("2", answers(*range(20, 40))), champion, LIMITS)  # half of the daisies are not
    assert not found.promoted and found.reason.startswith("better: ")
    assert found.reason.endswith("but class 'daisy' (recall 0.50, was 1.00, 40 examples): collapsed")
    unlimited = LIMITS.model_copy(update={"max_recall_drop": None})
    assert judge(contender("2", answers(*range(20, 40))), champion, unlimited).promoted


def test_another_test_set_or_other_classes_cannot_be_compared():
    found = verdict(answers(*range(60), test="other "), test="other")
    assert found.promoted and found.reason == "another test set than version 1: not comparable"
    new = replace(CHAMPION, version="2", classes=("daisy", "rose"))
    assert judge(new, CHAMPION, LIMITS).reason == "other classes than version 1: not comparable"


def test_calibration_and_size_are_limits_for_the_first_version_too():
    limits = LIMITS.model_copy(update={"max_ece": 0.04, "max_bytes": 900})
    found = judge(CHAMPION, None, limits)
    assert not found.promoted
    assert found.reason == (
        "there was no champion to compare with; but calibration error 0.0500, 0.0400 is allowed; "
        "1,000 bytes, 900 are allowed"
    )
    assert not judge(replace(CHAMPION, ece=None), None, limits.model_copy(update={"max_bytes": None})).promoted


@pytest.mark.parametrize("known", [None, answers(0, test="other "), answers(0, each=39)])
def test_without_the_champions_answers_to_the_same_examples_accuracy_alone_decides(known):
    champion = replace(CHAMPION, answers=known)
    found = judge(contender("2", answers(5, 45, 85, 86)), champion, LIMITS)
    assert found.promoted and "not judged: the single answers of version 1 are not to be had" in found.reason
    assert rule(found, "margin").passed is None and rule(found, "recall").passed is None


def draws(recalls, each, generator):
    """The answers of two classifiers that are equally good, and err independently of each other."""
    classes = tuple(f"class {number:03}" for number in range(len(recalls)))
    hits = [generator.random((len(recalls), each)) < recalls[:, None] for _ in range(2)]
    return [answers(*np.flatnonzero(~hit.ravel()), each=each, classes=classes) for hit in hits]


def test_of_102_classes_with_8_examples_each_none_collapses_by_chance():
    generator = np.random.default_rng(0)
    alarms = sum(bool(collapsed(*draws(generator.uniform(0.6, 1, 102), 8, generator), max_drop=0.2)) for _ in range(40))
    assert alarms <= 2


def test_a_class_of_8_examples_that_is_lost_is_found_among_102():
    classes = tuple(f"class {number:03}" for number in range(102))
    old, new = answers(each=8, classes=classes), answers(*range(80, 88), each=8, classes=classes)
    (found,) = collapsed(new, old, max_drop=0.2)
    assert str(found) == "class 'class 010' (recall 0.00, was 1.00, 8 examples)"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    client.create_experiment("gate", artifact_location=str(folder / "artifacts"))
    return client


@pytest.fixture
def register(client, tmp_path, request):
    """Registers a version with its answers, as `export` does, and gives what the gate is asked with."""
    name = request.node.name[:60]
    client.create_registered_model(name)

    def with_answers(table, *, logged=True, **known):
        run = client.create_run(client.get_experiment_by_name("gate").experiment_id)
        if logged:
            table.to_csv(tmp_path / "predictions.csv", index=False)
            client.log_artifact(run.info.run_id, str(tmp_path / "predictions.csv"), "reports")
        found = client.create_model_version(name, run.info.artifact_uri, run.info.run_id)
        new = contender(str(found.version), table, **known)
        told = {"accuracy": new.accuracy, "test_digest": new.test_digest, "classes": json.dumps(CLASSES)}
        for key, value in told.items():
            client.set_model_version_tag(name, new.version, key, str(value))
        return new

    with_answers.name = name
    return with_answers


def champion(client, name):
    return str(client.get_model_version_by_alias(name, "champion").version)


def admit(client, register, table, **known):
    return promotion.admit(client, register.name, "champion", register(table, **known), LIMITS)


def test_the_five_verdicts_of_a_registry(client, register):
    base = answers(*range(40, 60), 0)
    stories = {
        "there was no champion": (base, {}, "1"),
        "worse: ": (answers(*range(40, 60), 0, 1), {}, "1"),
        "as good: ": (base, {}, "3"),
        "better: test accuracy 0.9000": (answers(*range(0, 12)), {}, "3"),
        "better: test accuracy 0.8833": (answers(*range(40, 54)), {}, "5"),
        "another test set": (answers(*range(100), test="new "), {"test": "new"}, "6"),
    }
    for number, (reason, (table, known, holder)) in enumerate(stories.items(), 1):
        found = admit(client, register, table, **known)
        assert found.reason.startswith(reason)
        assert champion(client, register.name) == holder
        tags = client.get_model_version(register.name, str(number)).tags
        assert tags["reason"] == found.reason
        assert tags["verdict"] == ("promoted" if holder == str(number) else "not promoted")
    assert client.get_model_version(register.name, "4").tags["gate.recall"] == "failed"


def test_answers_that_were_not_logged_leave_accuracy_alone(client, register):
    admit(client, register, answers(0, 40), logged=False)
    found = admit(client, register, answers(5, 45))
    assert found.promoted and "are not to be had" in found.reason


def test_a_champion_registered_by_hand_is_replaced_and_the_reason_says_why(client, register):
    client.create_model_version(register.name, "elsewhere")
    client.set_registered_model_alias(register.name, "champion", "1")
    assert admit(client, register, answers(0)).reason.startswith("version 1 does not tell how good it is")
    assert champion(client, register.name) == "2"


def test_a_version_whose_export_was_killed_is_told_of_at_the_next(client, register):
    admit(client, register, answers(0))
    killed = client.get_model_version(register.name, register(answers(1)).version)
    assert promotion.tell_of_interrupted(client, register.name) == []  # its run is not known to have ended
    client.set_terminated(killed.run_id, "KILLED")
    assert promotion.tell_of_interrupted(client, register.name) == ["2"]
    assert client.get_model_version(register.name, "2").tags["verdict"] == "not judged"


@pytest.fixture
def run(client, monkeypatch, tmp_path):
    """A command in a folder without params.yaml, on the registry of these tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def test_a_worse_version_is_promoted_by_force_alone_and_its_tag_tells_who_and_why(client, register, run):
    admit(client, register, answers(0))
    admit(client, register, answers(0, 1))
    refused = run("promote", register.name, 2)
    assert refused.exit_code == 1 and refused.stderr.count("\n") == 1
    assert "is not let through: worse: " in refused.stderr and champion(client, register.name) == "1"
    forced = run("promote", register.name, 2, "--force", "--why", "it is faster")
    assert forced.stdout == f"{register.name}@champion is version 2 now, by force, and was 1\n"
    assert champion(client, register.name) == "2"
    assert client.get_model_version(register.name, "2").tags["forced"].endswith(": it is faster")
    listed = run("models", register.name).stdout
    assert " forced " in listed and "version 2: worse: test accuracy 0.9833, version 1 has 0.9917" in listed


def test_a_rollback_gives_the_alias_back_step_by_step_and_writes_it_down(client, register, run):
    for wrong in ((0, 1, 2), (0, 1), (0,)):
        admit(client, register, answers(*wrong))
    assert run("rollback", register.name).stdout == f"{register.name}@champion is version 2 again, and was 3\n"
    client.delete_model_version(register.name, "3")
    assert run("rollback", register.name).exit_code == 0 and champion(client, register.name) == "1"
    nothing_before = run("rollback", register.name)
    assert nothing_before.exit_code == 1 and "knows of no version before 1" in nothing_before.stderr
    moves = promotion.history(client, register.name)
    assert [(move["how"], move["from"], move["version"]) for move in moves] == [
        ("gate", None, "1"),
        ("gate", "1", "2"),
        ("gate", "2", "3"),
        ("rolled back", "3", "2"),
        ("rolled back", "2", "1"),
    ]
    assert run("promote", register.name, 2).exit_code == 0  # the gate is asked again


def test_a_move_by_hand_can_be_rolled_back_too(client, register, run):
    admit(client, register, answers(0))
    admit(client, register, answers(0, 1))
    client.set_registered_model_alias(register.name, "champion", "2")
    run("promote", register.name, 1, "--force")
    assert run("rollback", register.name).stdout.startswith(f"{register.name}@champion is version 2 again")


def test_the_trace_does_not_outgrow_its_tag(client, register):
    register(answers(0))
    register(answers(0))
    for number in range(14):
        promotion.force(client, register.name, "champion", str(1 + number % 2), why="again and again " * 30)
    tag = client.get_registered_model(register.name).tags[promotion.HISTORY]
    assert 1000 < len(tag) <= promotion.LONGEST_TAG
    assert promotion.history(client, register.name)[-1]["version"] == "2"


@pytest.mark.parametrize("arguments", [("promote", "nothing", 1), ("rollback", "nothing")])
def test_what_is_not_registered_is_told_in_a_line(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 1 and "not found" in result.stderr and result.stderr.count("\n") == 1
