"""A training that goes on from what was written down ends with the same bits as one that was never interrupted."""

from contextlib import closing
from itertools import islice

import pytest
import torch

from flowerml.engine.fit import Epoch, Trainer
from flowerml.search.checkpoint import PROGRESS, Checkpoint
from flowerml.search.study import Search
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tasks.text.networks import build_network
from tests.engine.test_fit import SECTION, batches, head, weights
from tests.tasks.text.test_networks import encoded_texts, section


def trial(changed, **values):
    """The first of a search on flowers, with these values of its section."""
    own = load_pipeline("flowers", changed("flowers.train.search.space", {})).train
    return next(iter(Search(own.with_values(values))))


def reread(one, training, folder):
    """The state of a training after a way through a file."""
    Checkpoint(folder, "key").write(one, training)
    state = Checkpoint(folder, "key").running(one.number)
    assert state is not None
    return state


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_training_goes_on_after_every_epoch_to_the_same_bits(changed, tmp_path, optimizer, schedule):
    values = SECTION | {"optimizer": optimizer, "schedule": schedule, "patience": 4, "learning_rate": 0.05}
    whole, data, one = head(), batches(apart=0.3), trial(changed)
    torch.manual_seed(1)
    expected = list(Trainer(whole, data, **values))
    for interrupted_after in range(1, len(expected)):
        first = Trainer(head(), data, **values)
        torch.manual_seed(1)
        seen = list(islice(first, interrupted_after))
        state = reread(one, first, tmp_path / str(interrupted_after))
        torch.manual_seed(2)
        second = head(seed=7)
        rest = Trainer(second, data, **values)
        rest.resume(state)
        epochs = [*seen, *rest]
        assert torch.equal(weights(second), weights(whole))
        assert [epoch.valid_loss for epoch in epochs] == [epoch.valid_loss for epoch in expected]


@pytest.mark.parametrize("kind", ["lstm", "ngrams", "blend"])
def test_every_network_for_texts_goes_on_to_the_same_bits(changed, tmp_path, kind):
    data, values = encoded_texts(tmp_path), section(kind, epochs=4)
    whole, training = build_network(data, values)
    expected = list(training)
    _, first = build_network(data, values)
    seen = list(islice(first, 2))
    state = reread(trial(changed), first, tmp_path / "checkpoint")
    network, rest = build_network(data, values)
    rest.resume(state)
    with closing(rest):
        seen += rest
    assert [(one.number, one.valid_loss) for one in seen] == [(one.number, one.valid_loss) for one in expected]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_a_search_that_is_told_what_was_seen_asks_for_the_same_trials(changed):
    own = load_pipeline("flowers", changed("flowers.train.search.trials", 14)).train
    whole, story = Search(own), {}
    for one in whole:
        # The later the trial the worse, so that some are given up.
        seen = (Epoch(n, 1.0, 0.5, 1.0, (n - 20 * one.section.dropout) / 50, 0.1, 0.1) for n in range(1, 26))
        any(one.report(epoch) for epoch in seen)
        story[one.number] = (tuple(one.epochs), one.state, one.reason)
    again = Search(own)
    for one in again:
        epochs, state, reason = story[one.number]
        one.restore(epochs, state=state, reason=reason)
    assert [one.section for one in again.trials] == [one.section for one in whole.trials]
    assert "pruned" in {one.state for one in whole.trials} and len(set(map(str, whole.trials))) == 14


def test_what_was_written_for_other_parameters_is_removed_unread(changed, tmp_path):
    training = Trainer(head(), batches(), **SECTION)
    next(training)
    Checkpoint(tmp_path / "checkpoint", "key").write(trial(changed), training)
    assert Checkpoint(tmp_path / "checkpoint", "another key").records == {}
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("left", [0, 7, 200, 5000])
def test_a_torn_checkpoint_is_none(changed, tmp_path, left):
    training, folder = Trainer(head(), batches(), **SECTION), tmp_path / "checkpoint"
    next(training)
    Checkpoint(folder, "key").write(trial(changed), training)
    content = (folder / PROGRESS).read_bytes()
    (folder / PROGRESS).write_bytes(content[: min(left, len(content) - 1)])
    assert Checkpoint(folder, "key").records == {}
