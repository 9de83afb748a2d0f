"""What is trained after a search: ensembles, repeats and refits, and the same after an interruption."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from flowerml.engine.fit import Trainer
from flowerml.search.networks import Cost
from flowerml.search.search import SearchStorage, run_search
from flowerml.tasks.pipelines import load_pipeline
from tests.engine.test_fit import SECTION, batches, weights
from tests.support.recorded_runs import key_of

EPOCHS = 3


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, database):
    monkeypatch.chdir(tmp_path)
    shutil.copy(database, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture
def section(changed):
    """Return a function from values to a section whose trials are quick and differ."""
    base = load_pipeline("flowers", changed("flowers.train.search.space", {})).train
    base = base.with_values({**SECTION, "epochs": EPOCHS, "schedule": "cosine", "learning_rate": 0.01})

    def make(*, trials=3, **values):
        space = {"learning_rate": [0.01, 0.003, 0.001][:trials]}
        return base.with_values({**values, "search": {"trials": trials, "prune": False, "space": space}})

    return make


class Points:
    """Networks on overlapping points; `failing` seeds diverge."""

    def __init__(self, failing=()):
        self.data = batches(apart=0.5, valid_apart=0.5)
        self.refit_data = batches(train=(60, 60), valid=(0, 0), apart=0.5)
        self.failing = failing

    def build(self, section):
        return self._build(section, self.data)

    def build_refit(self, section):
        return self._build(section, self.refit_data)

    def _build(self, section, data):
        torch.manual_seed(section.seed)
        network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
        arguments = section.trainer_arguments()
        if section.seed in self.failing:
            nn.init.constant_(network[0].weight, torch.nan)
        return network, Trainer(network, data, **arguments)

    def predict_valid(self, network):
        with torch.inference_mode():
            return torch.cat([network(*inputs) for inputs, _ in self.data.valid(batch_size=7)])

    def valid_targets(self):
        return torch.cat([targets for _, targets in self.data.valid(batch_size=7)])

    def combined(self, networks, weights):
        return Mean(networks, weights)

    def cost(self, network):
        return Cost(1.0, sum(parameter.numel() for parameter in network.parameters()))


class Mean(nn.Module):
    def __init__(self, networks, shares):
        super().__init__()
        self.networks, self.shares = nn.ModuleList(networks), shares

    def forward(self, inputs):
        parts = [share * network(inputs).softmax(1) for share, network in zip(self.shares, self.networks, strict=True)]
        return sum(parts).log()


class Silent:
    """A display that shows nothing, and that Ctrl-C ends after so many epochs."""

    def __init__(self, epochs=None):
        self.left = epochs

    @contextmanager
    def __call__(self, plan):
        yield self

    def epoch(self, trial, epoch):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def trial(self, trial):
        pass


def run(section, networks=None, *, display=None):
    networks = networks or Points()
    storage = SearchStorage("points", Path("checkpoint"), "key")
    result = run_search(
        section,
        networks,
        storage,
        parameters=lambda trial: {"train.seed": trial.section.seed, "train.learning_rate": trial.section.learning_rate},
        tags={},
        datasets=[],
        show_progress=display or Silent(),
    )
    repeats = [*result.repeats]
    return result, repeats


def recorded():
    client = MlflowClient()
    experiment = client.get_experiment_by_name("points")
    return {key_of(run): run for run in client.search_runs([experiment.experiment_id])}


def bits(network):
    return weights(network).tolist()


def test_nothing_more_by_default(section):
    result, repeats = run(section())
    assert (repeats, result.gain, result.winner.refitted) == ([], None, None)
    assert result.winner.record() == {}
    assert set(recorded()) == {"search", "trial 0", "trial 1", "trial 2"}


def test_ensemble_is_weighed_on_valid(section):
    networks = Points()
    result, _ = run(section(ensemble=3), networks)
    winner, gain = result.winner, result.gain
    assert winner.members[0].trial is result.search.best
    assert gain.accuracy >= gain.accuracy_alone
    accuracy = (networks.predict_valid(winner.network).argmax(1) == networks.valid_targets()).double().mean()
    assert gain.accuracy == pytest.approx(accuracy.item())
    metrics = recorded()["search"].data.metrics
    assert metrics["ensemble_valid_accuracy"] == pytest.approx(gain.accuracy)
    assert metrics["alone_milliseconds"] == 1.0 and "alone_milliseconds" not in result.scores()


def test_soup_is_one_network_of_averaged_weights(section):
    result, _ = run(section(ensemble=3, ensemble_by="soup"))
    members = result.winner.members
    assert isinstance(result.winner.network, nn.Sequential)
    assert all(member.count == 1 for member in members)
    assert result.gain.cost == result.gain.cost_alone


def test_repeats_have_seeds_of_their_own(section):
    result, repeats = run(section(repeats=3, seed=5))
    assert result.repeats.seeds == (6, 7)
    assert [winner.trial.section.seed for winner in repeats] == [6, 7]
    assert {winner.trial.section.learning_rate for winner in repeats} == {result.winner.trial.section.learning_rate}
    assert len({tuple(bits(winner.network)) for winner in (result.winner, *repeats)}) == 3
    accuracies = [winner.trial.best.valid_accuracy for winner in (result.winner, *repeats)]
    runs = recorded()
    assert {"repeat 2", "repeat 3"} < set(runs)
    metrics = runs["search"].data.metrics
    assert metrics["repeats_valid_accuracy_mean"] == pytest.approx(sum(accuracies) / 3)
    assert metrics["repeats_valid_accuracy_std"] > 0 or len({*accuracies}) == 1


def test_refit_learns_from_valid_too(section):
    networks = Points()
    result, _ = run(section(refit=True, trials=1), networks)
    expected, training = networks.build_refit(result.winner.trial.section)
    assert [epoch.number for epoch in training] == [1, 2, 3]
    assert bits(result.winner.refitted) == bits(expected) != bits(result.winner.network)
    assert "best_valid_accuracy" not in recorded()["refit"].data.metrics
    assert "valid_loss" not in recorded()["refit"].data.metrics


def test_refit_without_annealing_ends_at_the_best_epoch(section):
    networks = Points()
    result, _ = run(section(refit=True, trials=1, schedule="constant", learning_rate=0.5, epochs=9), networks)
    best = result.winner.trial.best.number
    assert best < 9
    metrics = recorded()["refit"].data.metrics
    assert metrics["best_epoch"] == best


def test_failed_repeat_is_left_out_with_a_warning(section, capsys):
    _, repeats = run(section(repeats=3), Points(failing=[1]))
    assert [winner.trial.section.seed for winner in repeats] == [2]
    assert "warning: repeat 2: the loss is not finite" in capsys.readouterr().err
    assert recorded()["repeat 2"].info.status == "FAILED"


def test_failed_refit_keeps_the_network(section, capsys):
    class Unlucky(Points):
        def build_refit(self, section):
            network, training = super().build_refit(section)
            nn.init.constant_(network[0].weight, torch.nan)
            return network, training

    result, _ = run(section(refit=True, trials=1), Unlucky())
    assert result.winner.refitted is None and "refit" not in result.winner.record()
    assert "the network of before the refit is kept" in capsys.readouterr().err


def test_repeats_of_an_ensemble_share_no_seed(section):
    base = section(ensemble=3, repeats=2)
    search = {"trials": 3, "prune": False, "space": {"seed": [0, 1, 2]}}
    result, repeats = run(base.with_values({"search": search}))
    seeds = [member.trial.section.seed for winner in (result.winner, *repeats) for member in winner.members]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(
    "values",
    [
        {"ensemble": 2, "repeats": 2, "refit": True},
        {"ensemble": 3, "ensemble_by": "soup", "refit": True},
    ],
)
def test_interrupted_anywhere_the_networks_are_the_same(section, values, monkeypatch):
    monkeypatch.setattr("flowerml.search.checkpoint.SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("flowerml.search.checkpoint.SHARE", 0)
    expected, expected_repeats = run(section(**values))
    shutil.rmtree("checkpoint")
    attempts = 0
    while True:
        try:
            result, repeats = run(section(**values), display=Silent(epochs=3 + 2 * attempts))
            break
        except KeyboardInterrupt:
            attempts += 1
    assert attempts > 2
    for one, other in zip((result.winner, *repeats), (expected.winner, *expected_repeats), strict=True):
        assert bits(one.network) == bits(other.network)
        assert bits(one.refitted) == bits(other.refitted)
        assert [member.count for member in one.members] == [member.count for member in other.members]


def test_resumed_at_the_end_an_ensemble_that_left_out_trials_is_the_same(section, monkeypatch):
    monkeypatch.setattr("flowerml.search.search.greedy_counts", lambda logits, _: ([1, 0, 1][: len(logits)], 1.0, 1.0))
    wanted = section(ensemble=3, refit=True)
    expected, _ = run(wanted)
    resumed, _ = run(wanted)
    assert len(expected.winner.left_out) == 1
    assert bits(resumed.winner.network) == bits(expected.winner.network)
    assert bits(resumed.winner.refitted) == bits(expected.winner.refitted)


def test_interrupted_after_the_heads_the_choices_are_the_same(section, monkeypatch):
    monkeypatch.setattr("flowerml.search.checkpoint.SECONDS_BETWEEN", 0.0)
    space = {"learning_rate": {"low": 0.001, "high": 0.1, "log": True}}
    wanted = section().with_values({"search": {"trials": 5, "prune": False, "head_trials": 2, "space": space}})
    expected, _ = run(wanted)
    shutil.rmtree("checkpoint")
    with pytest.raises(KeyboardInterrupt):
        run(wanted, display=Silent(epochs=2 * 25 + 5))
    result, _ = run(wanted, display=Silent())
    sections = [[trial.section for trial in each.search.trials] for each in (result, expected)]
    assert sections[0] == sections[1] and len(sections[0]) == 5
    assert bits(result.winner.network) == bits(expected.winner.network)
