"""Which classes are confused most often."""

import numpy as np

from flowerml.evaluation.confusions import most_confused


def test_most_confused_pairs_come_first():
    #                   0->1     1->0   2->3
    targets = np.array([0, 0, 0, 1, 1, 2, 2, 3, 0])
    predicted = np.array([1, 1, 0, 0, 1, 3, 2, 3, 2])
    first, second, third = most_confused(targets, predicted, most=5)
    assert (first.first, first.second, first.mistakes) == (0, 1, 3)
    assert (first.first_as_second.tolist(), first.second_as_first.tolist()) == ([0, 1], [3])
    assert (second.first, second.second) == (2, 3)  # ties with the third, and has fewer examples
    assert (third.first, third.second) == (0, 2)
