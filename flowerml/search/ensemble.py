"""Which networks of a search answer together: weights for their probabilities, or for an average of their weights."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

# Rounds of the selection for each network: the steps of its weights are no finer than that.
ROUNDS = 5

Score = tuple[float, float]
State = Mapping[str, Tensor]


def score(probabilities: Tensor, targets: Tensor) -> Score:
    """Return (accuracy, -cross-entropy), by which networks are ranked; probabilities [N, C], targets [N].

    >>> accuracy, _ = score(torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 1]))
    >>> accuracy
    0.5
    """
    accuracy = (probabilities.argmax(1) == targets).double().mean().item()
    of_targets = probabilities.gather(1, targets[:, None]).double().clamp(min=1e-12)
    # Rounded, as the order of a sum must not decide.
    return accuracy, round(of_targets.log().mean().item(), 9)


def greedy_counts(logits: Sequence[Tensor], targets: Tensor) -> tuple[list[int], float, float]:
    """Return how often each network counts in the mean of their probabilities; logits [N, C] of each, targets [N].

    With it the accuracy of this mean, and that of the first network alone.

    The greedy selection of Caruana et al. (2004), "Ensemble selection from libraries of models": beginning with the
    first network, which is the best, add the one, with replacement, that gives the best score, and return the best
    set that occurred.

    >>> first = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    >>> second = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    >>> greedy_counts([first, second], torch.tensor([0, 1, 1]))
    ([1, 1], 1.0, 0.6666666666666666)
    """
    probabilities = torch.stack([each.double().softmax(1) for each in logits])
    chosen = [0]
    alone = score(probabilities[0], targets)
    best, best_score = [*chosen], alone
    for _ in range(ROUNDS * len(logits) - 1):
        total = probabilities[chosen].sum(0)
        scores = [score((total + each) / (len(chosen) + 1), targets) for each in probabilities]
        number = max(range(len(scores)), key=scores.__getitem__)
        chosen.append(number)
        if scores[number] > best_score:
            best, best_score = [*chosen], scores[number]
    return [best.count(number) for number in range(len(logits))], best_score[0], alone[0]


def greedy_soup(states: Sequence[State], evaluate: Callable[[State], float]) -> tuple[list[int], float, float]:
    """Return which networks are averaged into one, as 1 or 0 for each; `states` come in order, the best first.

    With it the accuracy of the average, and that of the first network alone; `evaluate` returns that of a network.

    The greedy soup of Wortsman et al. (2022), "Model soups": a network stays in if accuracy does not fall. Networks
    whose weights have other shapes than the first one's are left out.
    """
    alone = evaluate(states[0])
    chosen, accuracy = [0], alone
    for number in range(1, len(states)):
        if _shapes(states[number]) != _shapes(states[0]):
            continue
        reached = evaluate(averaged([states[each] for each in (*chosen, number)]))
        if reached >= accuracy:
            chosen, accuracy = [*chosen, number], reached
    return [int(number in chosen) for number in range(len(states))], accuracy, alone


def averaged(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the mean of the weights of networks of the same shapes; whole numbers are those of the first.

    >>> averaged([{"weight": torch.tensor([1.0])}, {"weight": torch.tensor([2.0])}])
    {'weight': tensor([1.5000])}
    """
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }


def _shapes(state: State) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}
