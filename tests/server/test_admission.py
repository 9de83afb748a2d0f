"""What a refused request is told."""

import pytest

from flowerml.server.admission import LONGEST_RETRY, Admission
from flowerml.server.errors import Busy


@pytest.mark.parametrize(("seconds", "retry_after"), [(0.01, "1"), (2.0, "3"), (1e6, str(LONGEST_RETRY))])
def test_retry_after_is_when_the_accepted_are_done(seconds, retry_after):
    admission = Admission(lanes=2, queue=1, noun="requests")
    admission.enter()
    admission.leave(seconds)
    for _ in range(3):
        admission.enter()
    with pytest.raises(Busy) as refused:
        admission.enter()
    assert refused.value.headers["retry-after"] == retry_after


def test_a_place_that_is_left_is_taken_again():
    admission = Admission(lanes=1, queue=0, noun="requests")
    for _ in range(3):
        admission.enter()
        admission.leave()
    assert admission.load == 0
