import pytest
import torch

from flowerml.search.ensemble import averaged, greedy_counts, greedy_soup, score

TARGETS = torch.tensor([0, 1, 0, 1])


def logits(*margins: float) -> torch.Tensor:
    """Return logits whose margins of the correct class are these."""
    signs = torch.where(TARGETS == 1, 1.0, -1.0)
    return torch.stack([torch.zeros(len(margins)), signs * torch.tensor(margins)], dim=1)


def test_networks_with_other_mistakes_help_each_other():
    counts, *_ = greedy_counts([logits(2, 2, 2, -1), logits(-1, 1, 1, 3), logits(-9, -9, -9, -9)], TARGETS)
    assert counts[0] > 0 and counts[1] > 0 and counts[2] == 0


def test_a_network_that_helps_nothing_is_left_out():
    counts, *_ = greedy_counts([logits(3, 3, 3, 3), logits(-1, -1, 1, 1)], TARGETS)
    assert counts[0] > 0 and counts[1] == 0


def test_better_network_may_count_more():
    counts, *_ = greedy_counts([logits(4, 4, 4, -1.2), logits(-3, -3, -3, 2)], TARGETS)
    assert counts[0] > counts[1] > 0


def test_selection_is_never_worse_than_the_first():
    torch.manual_seed(0)
    for _ in range(20):
        candidates = [torch.randn(4, 2) for _ in range(3)]
        counts, reached, alone = greedy_counts(candidates, TARGETS)
        mean = sum(count * each.double().softmax(1) for count, each in zip(counts, candidates, strict=True))
        assert score(mean / sum(counts), TARGETS) >= score(candidates[0].double().softmax(1), TARGETS)
        assert reached == score(mean / sum(counts), TARGETS)[0] >= alone


def test_soup_keeps_what_does_not_harm():
    def evaluate(state):
        return 1 - abs(state["weight"].item() - 1.0)

    states = [{"weight": torch.tensor([value])} for value in (1.2, 5.0, 0.8)]
    counts, reached, alone = greedy_soup(states, evaluate)
    assert counts == [1, 0, 1] and (reached, alone) == pytest.approx((1.0, 0.8))


def test_soup_leaves_out_other_shapes():
    states = [{"weight": torch.zeros(1)}, {"weight": torch.zeros(2)}]
    assert greedy_soup(states, lambda state: 1.0)[0] == [1, 0]


def test_average_keeps_types_and_whole_numbers():
    states = [{"w": torch.tensor([value]), "steps": torch.tensor(int(value))} for value in (2.0, 4.0)]
    mean = averaged(states)
    assert (mean["w"].item(), mean["w"].dtype, mean["steps"].item()) == (3.0, torch.float32, 2)


def test_probabilities_are_ranked_by_accuracy_then_loss():
    sure, unsure = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.6, 0.4]])
    wrong = torch.tensor([[0.1, 0.9]])
    target = torch.tensor([0])
    assert score(sure, target) > score(unsure, target) > score(wrong, target)
    assert score(sure, target)[1] == pytest.approx(-0.105, abs=1e-3)
