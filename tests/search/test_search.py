import pytest

from flowerml.core.errors import FlowermlError
from flowerml.engine.fit import Epoch
from flowerml.search.study import Search
from flowerml.tasks.pipelines import load_pipeline


@pytest.fixture
def search(changed):
    """A function that starts a search over a space, other values of the section as given."""

    def start(space, *, trials: int = 8, prune: bool = False, **values) -> Search:
        section = load_pipeline("flowers", changed("flowers.train.search.space", {})).train
        section = section.with_values(values)
        return Search(section.with_values({"search": {"trials": trials, "prune": prune, "space": space}}))

    return start


def epoch(number: int, accuracy: float, loss: float = 1.0) -> Epoch:
    return Epoch(number, 1.0, 0.5, loss, accuracy, 0.1, 0.25)


def drawn(search: Search, name: str) -> list:
    """The values of one parameter in all trials; the accuracies that the search sees are made up."""
    found = []
    for trial in search:
        found.append(getattr(trial.section, name))
        trial.report(epoch(1, 0.5 + trial.number / 100))
    return found


def test_without_a_space_the_section_is_the_only_trial(search):
    one = search({}, trials=5)
    assert [trial.section for trial in one] == [one.section]


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
def test_the_first_trial_is_the_section_as_it_stands(search, space, values):
    one = search(space, **values)
    first = next(iter(one))
    for name in space:
        assert getattr(first.section, name) == getattr(one.section, name)


def test_values_are_drawn_from_the_seed_of_the_section(search):
    space = {"dropout": {"low": 0.1, "high": 0.5}, "hidden_units": [[], [8]]}
    first, again, other = (drawn(search(space, seed=seed), "dropout") for seed in (0, 0, 1))
    assert first == again != other
    assert first[0] == other[0]


def test_a_range_gives_every_number_in_it(search):
    found = drawn(search({"dropout": {"low": 0.2, "high": 0.4}}, trials=30, dropout=0.2), "dropout")
    assert len(found) == 30 and all(0.2 <= value <= 0.4 for value in found)
    assert len(set(found)) == 30


def test_a_range_of_a_whole_number_gives_whole_numbers_and_both_ends(search):
    found = drawn(search({"batch_size": {"low": 2, "high": 4}}, trials=30, batch_size=2), "batch_size")
    assert set(found) == {2, 3, 4} and all(type(value) is int for value in found)


def test_a_range_of_a_whole_number_that_may_be_missing_gives_whole_numbers(search):
    found = drawn(search({"patience": {"low": 2, "high": 5}}), "patience")
    assert all(value is None or isinstance(value, int) for value in found)


def test_a_range_of_a_number_with_a_fraction_may_be_written_without(search):
    found = drawn(search({"weight_decay": {"low": 0, "high": 1}}, weight_decay=0.0), "weight_decay")
    assert any(value not in (0, 1) for value in found)


def test_a_log_range_draws_evenly_over_orders_of_magnitude(search):
    space = {"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}}
    found = drawn(search(space, trials=40, learning_rate=1e-3), "learning_rate")
    assert all(1e-5 <= value <= 1e-1 for value in found)
    assert sum(value < 1e-3 for value in found[1:6]) in (1, 2, 3, 4)
    space = {"batch_size": {"low": 1, "high": 512, "log": True}}
    assert all(value in range(1, 513) for value in drawn(search(space, trials=30), "batch_size"))


def test_choices_may_be_lists_words_and_nothing(search):
    choices = {"hidden_units": [[], [8], [8, 4]], "optimizer": ["adam", "sgd"], "class_weights": [None, "balanced"]}
    for name, candidates in choices.items():
        found = drawn(search({name: candidates}, trials=20, **{name: candidates[0]}), name)
        assert all(value in candidates for value in found)
        assert all(candidate in found for candidate in candidates)


def test_the_rest_of_the_section_stays_as_it_is(search):
    one = search({"dropout": [0.1, 0.2]})
    for trial in one:
        trial.report(epoch(1, 0.5))
        assert trial.section.with_values({"dropout": one.section.dropout}) == one.section


def test_the_search_moves_to_where_accuracy_is_higher(search):
    one = search({"dropout": {"low": 0.0, "high": 0.9}}, trials=40, dropout=0.0)
    for trial in one:
        trial.report(epoch(1, 1 - abs(trial.section.dropout - 0.6)))
    assert one.best.section.dropout == pytest.approx(0.6, abs=0.05)
    assert sum(abs(trial.section.dropout - 0.6) < 0.2 for trial in one.trials[-10:]) > 5


def test_a_trial_is_judged_by_its_best_epoch_and_equals_by_their_loss(search):
    one = search({"dropout": [0.1, 0.2]}, trials=3)
    seen = [[(0.8, 0.5), (0.7, 0.1)], [(0.8, 0.6), (0.8, 0.4)], [(0.7, 0.1)]]
    for trial, epochs in zip(one, seen, strict=True):
        for number, (accuracy, loss) in enumerate(epochs, start=1):
            trial.report(epoch(number, accuracy, loss))
    assert [trial.best.number for trial in one.trials] == [1, 2, 1]
    assert one.best is one.trials[1]
    assert one.best.score() == {"best_valid_accuracy": 0.8, "best_valid_loss": 0.4, "best_epoch": 2}


def run(search: Search, accuracies: list[float], epochs: int) -> list[tuple[str, int]]:
    """Each trial has one accuracy in all of its epochs; how the trials ended, and after how many epochs."""
    for trial, accuracy in zip(search, accuracies, strict=True):
        any(trial.report(epoch(number, accuracy)) for number in range(1, epochs + 1))
    return [(trial.state, len(trial.epochs)) for trial in search.trials]


def test_a_trial_below_the_median_of_three_others_is_given_up_after_a_third_of_its_epochs(search):
    one = search({"dropout": [0.1, 0.2]}, trials=5, prune=True, epochs=9, dropout=0.1)
    ended = run(one, [0.5, 0.6, 0.7, 0.2, 0.8], 9)
    assert ended == [("complete", 9)] * 3 + [("pruned", 3)] + [("complete", 9)]
    assert one.trials[3].reason == "below the median of the other trials after epoch 3"
    assert one.best is one.trials[4]


def test_no_trial_is_given_up_unless_wanted(search):
    one = search({"dropout": [0.1, 0.2]}, trials=5, prune=False, epochs=9)
    assert run(one, [0.5, 0.6, 0.7, 0.2, 0.8], 9) == [("complete", 9)] * 5


def test_a_trial_that_was_given_up_or_failed_cannot_win(search):
    one = search({"dropout": [0.1, 0.2]}, trials=3)
    for trial, state in zip(one, ("failed", "complete", "pruned"), strict=True):
        trial.report(epoch(1, 0.5 if state == "complete" else 0.9))
        trial.state = state
    assert one.best is one.trials[1]


def test_a_search_without_a_complete_trial_tells_why(search):
    one = search({"dropout": [0.1, 0.2]}, trials=3)
    for trial in one:
        trial.fail("the loss is not a number" if trial.number else "no memory")
    with pytest.raises(FlowermlError, match=r"no trial of the search completed: no memory; the loss is not a number$"):
        _ = one.best


def test_a_trial_is_a_row_of_a_table(search):
    one = search({"dropout": [0.1, 0.2], "hidden_units": [[8]]}, trials=2, dropout=0.1, hidden_units=[8])
    for trial in one:
        trial.fail("no memory") if trial.number else [trial.report(epoch(n, 0.5 + n / 10)) for n in (1, 2)]
    first, second = (trial.row() for trial in one.trials)
    score = {"best_valid_accuracy": 0.7, "best_valid_loss": 1.0, "best_epoch": 2}
    space = {"dropout": "0.1", "hidden_units": "[8]"}
    assert first == {"trial": 0, "state": "complete", **score, "epochs": 2, "seconds": 0.5, **space, "reason": ""}
    assert second["state"] == "failed" and second["reason"] == "no memory" and "best_epoch" not in second
