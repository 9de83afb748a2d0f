"""What is in the folder of a checkpoint, and what becomes of it."""

import errno
import json

import pytest
import torch

from flowerml.core.errors import FlowermlError
from flowerml.engine.fit import Epoch, Trainer
from flowerml.search.checkpoint import FORMER, RECORDS, Checkpoint
from flowerml.search.trial import Trial
from flowerml.tasks.pipelines import load_pipeline
from tests.engine.test_fit import SECTION, batches, head

EPOCHS = [Epoch(number, 1.0, 0.5, 1.0, 0.5 + number / 10, 0.1, 0.25) for number in (1, 2)]


@pytest.fixture
def trials(changed):
    """Return a function from numbers to finished trials."""
    section = load_pipeline("flowers", changed("flowers.train.search.space", {})).train

    def make(*numbers, **values):
        made = [Trial(number, section, **values) for number in numbers]
        for trial in made:
            trial.restore(EPOCHS, state="complete", reason="")
            trial.finished = True
        return made

    return make


def weights(value):
    return {"weight": torch.tensor([float(value)])}


def opened(folder, key="key", *, trials=3, plan=()):
    return Checkpoint(folder / "checkpoint", key, trials=trials, plan=plan)


def test_records_come_back(tmp_path, trials):
    (trial,) = trials(0)
    opened(tmp_path).finish(trial, weights(1), keep=[trial])
    checkpoint = opened(tmp_path)
    assert checkpoint.notice == "resuming an interrupted search"
    assert checkpoint.records["trial-0"].epochs == tuple(EPOCHS)
    assert torch.equal(checkpoint.weights(trial)["weight"], torch.tensor([1.0]))


def test_bytes_grow_with_the_trials(tmp_path, trials):
    checkpoint, sizes = opened(tmp_path), []
    for trial in trials(*range(200)):
        checkpoint.finish(trial, None)
        sizes.append((tmp_path / "checkpoint" / RECORDS).stat().st_size)
    assert sizes[199] - sizes[99] == pytest.approx(sizes[99] - sizes[0], rel=0.05)


@pytest.mark.parametrize("torn", [1, 20, 300])
def test_a_torn_line_is_dropped(tmp_path, trials, torn):
    first, second = trials(0, 1)
    checkpoint = opened(tmp_path)
    checkpoint.finish(first, None)
    checkpoint.finish(second, None)
    path = tmp_path / "checkpoint" / RECORDS
    path.write_bytes(path.read_bytes()[:-torn])
    checkpoint = opened(tmp_path)
    assert [*checkpoint.records] == ["trial-0"]
    checkpoint.finish(second, None)
    assert [*opened(tmp_path).records] == ["trial-0", "trial-1"]


@pytest.mark.parametrize(
    "line", ["[]", "1", '"finished"', '{"id": 3}', '{"finished": "x", "run": null, "runs": {}}', '{"id": {}}', "{"]
)
def test_a_strange_line_is_not_read(tmp_path, trials, line):
    opened(tmp_path).finish(trials(0)[0], None)
    path = tmp_path / "checkpoint" / RECORDS
    path.write_text(path.read_text() + line + "\n")
    assert [*opened(tmp_path).records] == ["trial-0"]


def test_kept_weights_are_right_in_any_order(tmp_path, trials):
    checkpoint, (first, second, third) = opened(tmp_path), trials(0, 1, 2)
    checkpoint.finish(third, weights(3), keep=[third])
    checkpoint.finish(first, weights(1), keep=[first, third])
    checkpoint.finish(second, None, keep=[first, third])
    assert checkpoint.has_weights(first) and checkpoint.has_weights(third)
    checkpoint.finish(second, weights(2), keep=[second, third])
    assert not checkpoint.has_weights(first)


def test_states_of_two_in_flight_are_their_own(tmp_path, trials):
    for seed, trial in enumerate(trials(0, 1)):
        training = Trainer(head(seed), batches(), **SECTION)
        next(training)
        opened(tmp_path).write(trial, training)
    checkpoint = opened(tmp_path)
    first, second = (checkpoint.running(trial).state["network"] for trial in trials(0, 1))
    assert any(not torch.equal(first[name], second[name]) for name in first)
    checkpoint.finish(trials(0)[0], None)
    assert checkpoint.running(trials(0)[0]) is None and checkpoint.running(trials(1)[0]) is not None


def test_a_state_of_another_key_is_not_resumed(tmp_path, trials):
    (trial,), training = trials(0), Trainer(head(), batches(), **SECTION)
    next(training)
    opened(tmp_path).write(trial, training)
    kept = tmp_path / "checkpoint/state.trial-0.safetensors"
    content = kept.read_bytes()
    checkpoint = opened(tmp_path, "other")
    checkpoint.finish(trials(1)[0], None)
    kept.write_bytes(content)
    assert checkpoint.running(trial) is None


def finished(folder, trials, *numbers):
    """Finish a search of trials of these numbers, of which the first is the best."""
    checkpoint, made = opened(folder, trials=len(numbers)), trials(*numbers)
    for trial in made:
        checkpoint.finish(trial, weights(trial.number) if trial is made[0] else None, keep=made[:1])
    (refit,) = trials(9, kind="refit", id="refit-of-trial-0-seed-0")
    checkpoint.finish(refit, weights(9), keep=[made[0], refit])
    checkpoint.close(len(made), made[:1], run="run", runs={trial.name: f"id {trial.number}" for trial in made})


def test_a_finished_search_keeps_records_and_leaders(tmp_path, trials):
    finished(tmp_path, trials, 0, 1)
    assert {path.name for path in (tmp_path / "checkpoint").iterdir()} == {RECORDS, "trial-0.safetensors"}


def test_more_trials_extend_a_finished_search(tmp_path, trials):
    finished(tmp_path, trials, 0, 1)
    checkpoint = opened(tmp_path, trials=3)
    assert checkpoint.notice == "extending a finished search of 2 trials to 3"
    assert [*checkpoint.records] == ["trial-0", "trial-1"]
    assert (checkpoint.earlier.run, checkpoint.earlier.trials["trial 1"]) == ("run", "id 1")


def test_an_interrupted_extension_resumes(tmp_path, trials):
    finished(tmp_path, trials, 0, 1)
    opened(tmp_path, trials=4).finish(trials(2)[0], None)
    checkpoint = opened(tmp_path, trials=4)
    assert (checkpoint.notice, len(checkpoint.records)) == ("resuming an interrupted search", 3)
    assert checkpoint.earlier.run == "run"


@pytest.mark.parametrize("count", [1, 2])
def test_no_more_trials_start_anew(tmp_path, trials, count):
    finished(tmp_path, trials, 0, 1)
    assert opened(tmp_path, trials=count).records == {}
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trials": 1}, "an interrupted search had begun 2 trials, more than 1; starting anew"),
        (
            {"plan": ["all 4 points"]},
            "with this number of trials other points are tried (all 4 points; before: nothing)",
        ),
        ({"key": "other"}, None),
    ],
)
def test_what_is_not_resumed_is_said(tmp_path, trials, values, words):
    checkpoint = opened(tmp_path)
    for trial in trials(0, 1):
        checkpoint.finish(trial, None)
    checkpoint = opened(tmp_path, **values)
    assert checkpoint.records == {} and (checkpoint.notice == words or checkpoint.notice.startswith(words))


def test_a_checkpoint_of_before_starts_anew(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / FORMER).write_bytes(b"0")
    checkpoint = opened(tmp_path)
    assert checkpoint.notice == "its checkpoint was written by an earlier version of flowerml; starting anew"
    assert not (tmp_path / "checkpoint").exists()


def test_lost_weights_are_named(tmp_path, trials):
    finished(tmp_path, trials, 0, 1)
    (tmp_path / "checkpoint/trial-0.safetensors").unlink()
    with pytest.raises(FlowermlError, match=r"trial-0\.safetensors: expected the weights of trial 0, .*; remove "):
        opened(tmp_path, trials=3).weights(trials(0)[0])


def test_full_disk_keeps_the_lines_of_before(tmp_path, trials, limit_file_size):
    first, second = trials(0, 1)
    checkpoint = opened(tmp_path)
    checkpoint.finish(first, None)
    limit_file_size((tmp_path / "checkpoint" / RECORDS).stat().st_size + 100)
    with pytest.raises(OSError, match=RECORDS) as refused:
        checkpoint.finish(second, None)
    limit_file_size(10**9)
    assert refused.value.errno == errno.EFBIG
    assert [*opened(tmp_path).records] == ["trial-0"]


def test_a_removal_cut_short_is_no_checkpoint(tmp_path, trials):
    finished(tmp_path, trials, 0, 1)
    (tmp_path / "checkpoint" / RECORDS).unlink()
    assert opened(tmp_path, trials=3).records == {} and not (tmp_path / "checkpoint").exists()


def test_records_are_plain_lines(tmp_path, trials):
    opened(tmp_path).finish(trials(0)[0], None)
    header, record = map(json.loads, (tmp_path / "checkpoint" / RECORDS).read_text().splitlines())
    assert header["key"] == "key" and record["epochs"][1]["valid_accuracy"] == 0.7
