"""Training resumed from a checkpoint ends with the same bits as uninterrupted training."""

from contextlib import closing
from itertools import islice

import pytest
import torch

from flowerml.engine.fit import Epoch, Trainer
from flowerml.engine.optimizers import Group
from flowerml.engine.recipe import Recipe
from flowerml.search.checkpoint import Checkpoint
from flowerml.search.study import Search
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tasks.text.networks import build_network
from tests.engine.test_fit import SECTION, batches, head, weights
from tests.tasks.text.test_networks import encoded_texts, section


def first_trial(changed, **values):
    """Return the first trial of a search on flowers, with these values of its section."""
    section = load_pipeline("flowers", changed("flowers.train.search.space", {})).train
    return next(iter(Search(section.with_values(values))))


def write_and_read(trial, training, folder):
    """Return the state of a training, written to a checkpoint and read again."""
    trial.epochs = [Epoch(1, 1.0, 0.5, 1.0, 0.5, 0.1, 0.1)]  # a state without an epoch is none
    Checkpoint(folder, "key").write(trial, training)
    saved = Checkpoint(folder, "key").running(trial)
    assert saved is not None
    return saved.state


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_training_resumes_to_the_bit(changed, tmp_path, optimizer, schedule):
    values = SECTION | {"optimizer": optimizer, "schedule": schedule, "patience": 4, "learning_rate": 0.05}
    whole, data, trial = head(), batches(apart=0.3), first_trial(changed)
    torch.manual_seed(1)
    expected = list(Trainer(whole, data, **values))
    for interrupted_after in range(1, len(expected)):
        first = Trainer(head(), data, **values)
        torch.manual_seed(1)
        seen = list(islice(first, interrupted_after))
        state = write_and_read(trial, first, tmp_path / str(interrupted_after))
        torch.manual_seed(2)
        second = head(seed=7)
        rest = Trainer(second, data, **values)
        rest.resume(state)
        epochs = [*seen, *rest]
        assert torch.equal(weights(second), weights(whole))
        assert [epoch.valid_loss for epoch in epochs] == [epoch.valid_loss for epoch in expected]


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_whole_recipe_resumes_to_the_bit(changed, tmp_path, schedule):
    def training(network):
        groups = [Group([*network[3].parameters()]), Group([*network[0].parameters()], 0.5, body=True)]
        recipe = Recipe(groups, freeze_epochs=1, warmup_epochs=0.5, ema=0.9, mixup=0.4, clip_norm=1.0, accumulate=2)
        return Trainer(network, data, **SECTION | {"schedule": schedule}, recipe=recipe)

    whole, data, trial = head(), batches(apart=0.3), first_trial(changed)
    torch.manual_seed(1)
    expected = [epoch.valid_loss for epoch in training(whole)]
    for interrupted_after in range(1, len(expected)):
        first = training(head())
        torch.manual_seed(1)
        seen = [epoch.valid_loss for epoch in islice(first, interrupted_after)]
        state = write_and_read(trial, first, tmp_path / str(interrupted_after))
        torch.manual_seed(2)
        second = head(seed=7)
        rest = training(second)
        rest.resume(state)
        seen += [epoch.valid_loss for epoch in rest]
        assert torch.equal(weights(second), weights(whole)) and seen == expected


@pytest.mark.parametrize("kind", ["lstm", "ngrams", "blend"])
def test_text_network_resumes_to_the_bit(changed, tmp_path, kind):
    data, values = encoded_texts(tmp_path), section(kind, epochs=4)
    whole, training = build_network(data, values)
    expected = list(training)
    _, first = build_network(data, values)
    seen = list(islice(first, 2))
    state = write_and_read(first_trial(changed), first, tmp_path / "checkpoint")
    network, rest = build_network(data, values)
    rest.resume(state)
    with closing(rest):
        seen += rest
    assert [(epoch.number, epoch.valid_loss) for epoch in seen] == [
        (epoch.number, epoch.valid_loss) for epoch in expected
    ]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_restored_search_has_the_same_trials(changed):
    section = load_pipeline("flowers", changed("flowers.train.search.trials", 14)).train
    search, records = Search(section), {}
    for trial in search:
        # The higher the dropout the worse, so that some trials are pruned.
        seen = (Epoch(n, 1.0, 0.5, 1.0, (n - 20 * trial.section.dropout) / 50, 0.1, 0.1) for n in range(1, 26))
        any(trial.report(epoch) for epoch in seen)
        records[trial.number] = (tuple(trial.epochs), trial.state, trial.reason)
    restored = Search(section)
    for trial in restored:
        epochs, state, reason = records[trial.number]
        trial.restore(epochs, state=state, reason=reason)
    assert [trial.section for trial in restored.trials] == [trial.section for trial in search.trials]
    assert "pruned" in {trial.state for trial in search.trials} and len(set(map(str, search.trials))) == 14


def test_checkpoint_of_other_key_is_deleted(changed, tmp_path):
    training = Trainer(head(), batches(), **SECTION)
    next(training)
    Checkpoint(tmp_path / "checkpoint", "key").write(first_trial(changed), training)
    assert Checkpoint(tmp_path / "checkpoint", "another key").records == {}
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("left", [0, 7, 200, 5000])
def test_torn_state_is_ignored(changed, tmp_path, left):
    training, folder, trial = Trainer(head(), batches(), **SECTION), tmp_path / "checkpoint", first_trial(changed)
    next(training)
    Checkpoint(folder, "key").write(trial, training)
    path = folder / "state.trial-0.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: min(left, len(content) - 1)])
    assert Checkpoint(folder, "key").running(trial) is None
