"""What a task tells of one example, so that the checks need not know what kind of data it is."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Facts:
    """What is odd about one example, and what its likes are found by.

    `notes` has the names of findings, each with what was seen, in a few words. Two examples with one `digest` are the
    same; of those with others the `signature`s say how alike they are, to the task that made them.
    """

    digest: bytes
    signature: NDArray[np.generic]
    notes: dict[str, str] = field(default_factory=dict)
