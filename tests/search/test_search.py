import pytest

from flowerml.core.errors import FlowermlError
from flowerml.engine.fit import Epoch
from flowerml.search.study import Search
from flowerml.tasks.pipelines import load_pipeline


@pytest.fixture
def make_search(changed):
    """Return a function that starts a search over a space, with the given values of the section."""

    def start(space, *, trials: int = 8, prune: bool = False, **values) -> Search:
        section = load_pipeline("flowers", changed("flowers.train.search.space", {})).train
        section = section.with_values(values)
        return Search(section.with_values({"search": {"trials": trials, "prune": prune, "space": space}}))

    return start


def epoch(number: int, accuracy: float, loss: float = 1.0) -> Epoch:
    return Epoch(number, 1.0, 0.5, loss, accuracy, 0.1, 0.25)


def sample_values(search: Search, name: str) -> list:
    """The values of search parameter in all trials; the accuracies that the search sees are made up."""
    values = []
    for trial in search:
        values.append(getattr(trial.section, name))
        trial.report(epoch(1, 0.5 + trial.number / 100))
    return values


def test_empty_space_is_one_trial(make_search):
    search = make_search({}, trials=5)
    assert [trial.section for trial in search] == [search.section]


@pytest.mark.parametrize(
    ("space", "values"),
    [
        ({"dropout": {"low": 0.1, "high": 0.5}, "hidden_units": [[], [8]]}, {"dropout": 0.25, "hidden_units": [8]}),
        ({"dropout": {"low": 0.1, "high": 0.5}}, {"dropout": 0.5}),
        ({"patience": [None, 3]}, {"patience": None}),
        ({"weight_decay": [0, 0.1]}, {"weight_decay": 0}),
        ({"weight_decay": [0.0, 0.1]}, {"weight_decay": 0}),
        ({"learning_rate": {"low": 0.01, "high": 0.1, "log": True}}, {"learning_rate": 0.5}),
        ({"hidden_units": [[], [8]], "dropout": [0.1, 0.2]}, {"hidden_units": [16], "dropout": 0.2}),
    ],
)
def test_first_trial_has_the_sections_values(make_search, space, values):
    search = make_search(space, **values)
    first = next(iter(search))
    for name in space:
        assert getattr(first.section, name) == getattr(search.section, name)


def test_sampling_depends_on_the_seed(make_search):
    space = {"dropout": {"low": 0.1, "high": 0.5}, "hidden_units": [[], [8]]}
    first, again, other = (sample_values(make_search(space, seed=seed), "dropout") for seed in (0, 0, 1))
    assert first == again != other
    assert first[0] == other[0]


def test_range_is_continuous(make_search):
    values = sample_values(make_search({"dropout": {"low": 0.2, "high": 0.4}}, trials=30, dropout=0.2), "dropout")
    assert len(values) == 30 and all(0.2 <= value <= 0.4 for value in values)
    assert len(set(values)) == 30


def test_integer_range_includes_both_ends(make_search):
    values = sample_values(make_search({"batch_size": {"low": 2, "high": 4}}, trials=30, batch_size=2), "batch_size")
    assert set(values) == {2, 3, 4} and all(type(value) is int for value in values)


def test_optional_integer_range_gives_integers(make_search):
    values = sample_values(make_search({"patience": {"low": 2, "high": 5}}), "patience")
    assert all(value is None or isinstance(value, int) for value in values)


def test_float_range_with_integer_ends(make_search):
    values = sample_values(make_search({"weight_decay": {"low": 0, "high": 1}}, weight_decay=0.0), "weight_decay")
    assert any(value not in (0, 1) for value in values)


def test_log_range_is_even_over_magnitudes(make_search):
    space = {"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}}
    values = sample_values(make_search(space, trials=40, learning_rate=1e-3), "learning_rate")
    assert all(1e-5 <= value <= 1e-1 for value in values)
    assert sum(value < 1e-3 for value in values[1:6]) in (1, 2, 3, 4)
    space = {"batch_size": {"low": 1, "high": 512, "log": True}}
    assert all(value in range(1, 513) for value in sample_values(make_search(space, trials=30), "batch_size"))


def test_choices_may_be_lists_words_and_null(make_search):
    choices = {"hidden_units": [[], [8], [8, 4]], "optimizer": ["adam", "sgd"], "class_weights": [None, "balanced"]}
    for name, candidates in choices.items():
        values = sample_values(make_search({name: candidates}, trials=20, **{name: candidates[0]}), name)
        assert all(value in candidates for value in values)
        assert all(candidate in values for candidate in candidates)


def test_a_small_space_is_tried_point_by_point(make_search):
    space = {"hidden_units": [[], [8]], "dropout": [0.1, 0.2]}
    search = make_search(space, trials=9, dropout=0.2, hidden_units=[])
    tried = []
    for trial in search:
        tried.append((trial.section.hidden_units, trial.section.dropout))
        trial.report(epoch(1, 0.5))
    assert tried[0] == ([], 0.2)
    assert sorted(tried) == [([], 0.1), ([], 0.2), ([8], 0.1), ([8], 0.2)]
    assert search.count == 4


def test_other_parameters_stay_unchanged(make_search):
    search = make_search({"dropout": [0.1, 0.2]})
    for trial in search:
        trial.report(epoch(1, 0.5))
        assert trial.section.with_values({"dropout": search.section.dropout}) == search.section


def test_search_moves_to_higher_accuracy(make_search):
    search = make_search({"dropout": {"low": 0.0, "high": 0.9}}, trials=40, dropout=0.0)
    for trial in search:
        trial.report(epoch(1, 1 - abs(trial.section.dropout - 0.6)))
    assert search.best.section.dropout == pytest.approx(0.6, abs=0.05)
    assert sum(abs(trial.section.dropout - 0.6) < 0.2 for trial in search.trials[-10:]) > 5


def test_best_epoch_ranks_with_ties_by_loss(make_search):
    search = make_search({"dropout": [0.1, 0.2]}, trials=3)
    seen = [[(0.8, 0.5), (0.7, 0.1)], [(0.8, 0.6), (0.8, 0.4)], [(0.7, 0.1)]]
    for trial, epochs in zip(search, seen, strict=True):
        for number, (accuracy, loss) in enumerate(epochs, start=1):
            trial.report(epoch(number, accuracy, loss))
    assert [trial.best.number for trial in search.trials] == [1, 2, 1]
    assert search.best is search.trials[1]
    assert search.best.score() == {"best_valid_accuracy": 0.8, "best_valid_loss": 0.4, "best_epoch": 2}


def run_trials(search: Search, accuracies: list[float], epochs: int) -> list[tuple[str, int]]:
    """Each trial has search accuracy in all of its epochs; how the trials ended, and after how many epochs."""
    for trial, accuracy in zip(search, accuracies, strict=True):
        any(trial.report(epoch(number, accuracy)) for number in range(1, epochs + 1))
    return [(trial.state, len(trial.epochs)) for trial in search.trials]


def test_trial_below_median_is_pruned(make_search):
    search = make_search({"dropout": {"low": 0.1, "high": 0.2}}, trials=5, prune=True, epochs=9, dropout=0.1)
    ended = run_trials(search, [0.5, 0.6, 0.7, 0.2, 0.8], 9)
    assert ended == [("complete", 9)] * 3 + [("pruned", 3)] + [("complete", 9)]
    assert search.trials[3].reason == "below the median of the other trials after epoch 3"
    assert search.best is search.trials[4]


def test_pruning_can_be_off(make_search):
    search = make_search({"dropout": [0.1, 0.2]}, trials=5, prune=False, epochs=9)
    assert run_trials(search, [0.5, 0.6, 0.7, 0.2, 0.8], 9) == [("complete", 9)] * 5


def test_pruned_or_failed_trial_cannot_win(make_search):
    search = make_search({"dropout": [0.1, 0.2]}, trials=3)
    for trial, state in zip(search, ("failed", "complete", "pruned"), strict=True):
        trial.report(epoch(1, 0.5 if state == "complete" else 0.9))
        trial.state = state
    assert search.best is search.trials[1]


def test_search_without_result_says_why(make_search):
    search = make_search({"dropout": [0.1, 0.2]}, trials=3)
    for trial in search:
        trial.fail("the loss is not a number" if trial.number else "no memory")
    with pytest.raises(FlowermlError, match=r"no trial of the search completed: no memory; the loss is not a number$"):
        _ = search.best


def test_trial_is_a_table_row(make_search):
    search = make_search({"dropout": [0.1, 0.2], "hidden_units": [[8]]}, trials=2, dropout=0.1, hidden_units=[8])
    for trial in search:
        trial.fail("no memory") if trial.number else [trial.report(epoch(n, 0.5 + n / 10)) for n in (1, 2)]
    first, second = (trial.row() for trial in search.trials)
    score = {"best_valid_accuracy": 0.7, "best_valid_loss": 1.0, "best_epoch": 2}
    space = {"dropout": "0.1", "hidden_units": "[8]"}
    assert first == {"trial": 0, "state": "complete", **score, "epochs": 2, **space, "reason": ""}
    assert second["state"] == "failed" and second["reason"] == "no memory" and "best_epoch" not in second


@pytest.mark.parametrize(("networks", "planned"), [(["ngrams"], 1), (["ngrams", "lstm"], 6), ([None], 1)])
def test_planned_epochs_are_of_the_longest_trial(changed, networks, planned):
    section = load_pipeline("reviews", changed("reviews.train.epochs", 6)).train
    space = {"network": networks}
    section = section.with_values({"network": networks[0], "search": {"trials": 2, "prune": False, "space": space}})
    assert Search(section).planned("trial")[1] == planned


@pytest.fixture
def make_two_step(make_search):
    """Return a function that starts a search whose first trials train the head alone."""

    def start(space, *, trials: int, heads: int, **values) -> Search:
        section = make_search({}, **values).section
        search = {"trials": trials, "prune": True, "head_trials": heads, "space": space}
        return Search(section.with_values({"epochs": 9, "search": search}))

    return start


def test_first_trials_are_of_the_head_alone(make_two_step):
    search = make_two_step({"augment.smallest_crop": [0.4, 0.3]}, trials=7, heads=4, learning_rate=0.001)
    for trial in search:
        trial.report(epoch(1, 0.5))
    assert [trial.section.fine_tune for trial in search.trials] == [False] * 4 + [True] * 2
    assert {trial.section.learning_rate for trial in search.trials[4:]} == {0.001}
    assert [trial.section.augment.smallest_crop for trial in search.trials[4:]] == [0.4, 0.3]


def test_fine_tuned_trials_take_the_shape_of_the_best_head(make_two_step):
    search = make_two_step({"dropout": [0.0, 0.1], "epochs": [9, 3]}, trials=8, heads=6, dropout=0.0)
    for trial in search:
        trial.report(epoch(1, 0.9 if trial.number == 4 else 0.5))
    chosen = search.trials[4].section.head_choices()
    assert [trial.section.head_choices() for trial in search.trials[6:]] == [chosen] * 2
    assert [trial.section.epochs for trial in search.trials[6:]] == [9, 3]
    assert "dropout" in search.trials[6].row(search.searched)


def test_failed_heads_leave_the_sections_own_values(make_two_step):
    search = make_two_step({"epochs": [9, 3]}, trials=4, heads=2, dropout=0.3)
    for trial in search:
        trial.fail("no memory") if trial.kind == "head" else trial.report(epoch(1, 0.5))
    assert [trial.section.dropout for trial in search.trials[2:]] == [0.3, 0.3]
    assert search.best is search.trials[2]


def test_fine_tuned_trials_are_not_pruned(make_two_step):
    search = make_two_step({"weight_decay": {"low": 0.1, "high": 0.2}}, trials=10, heads=4, weight_decay=0.1)
    ended = run_trials(search, [0.5, 0.6, 0.7, 0.2, 0.9, 0.9, 0.9, 0.9, 0.2, 0.9], 9)
    assert ended == [("complete", 9)] * 3 + [("pruned", 8)] + [("complete", 9)] * 6


def test_planned_epochs_of_two_steps_are_summed(make_two_step):
    search = make_two_step({"epochs": [9, 3]}, trials=5, heads=2)
    assert search.total_epochs == 2 * 25 + 2 * 9
