"""What a text is about, in a few numbers: latent semantic analysis of the words of the training texts.

Deerwester et al. (1990), "Indexing by Latent Semantic Analysis": principal directions of the texts' words, each word
weighted by its surprise. With half of the topics of support tickets new in 40 of 200 tickets, one test on all of these
numbers raised an alarm in 16 of 24 draws, and in 1 to 2 on random projections of the words.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse as sparse
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowerml.engine.blas import one_thread
from flowerml.engine.components import inverse_deviations, principal_directions
from flowerml.engine.feature_distance import MAX_EXAMPLES
from flowerml.tasks.text.networks.word_pairs import PairCounts, PairModel

COUNT = 16  # a table of 131,072 words has 4 MB


@dataclass(frozen=True)
class TopicModel:
    """Directions [V + 1, COUNT] of the words of a table, times their surprise; `means` and `scales` [COUNT] of texts.

    The last row is that of words that are not in the table.
    """

    directions: NDArray[np.float16]
    means: NDArray[np.float32]
    scales: NDArray[np.float32]

    @classmethod
    def of(cls, counts: PairCounts, model: PairModel) -> Self:
        """Return the topics of the counted texts, of at most MAX_EXAMPLES; `model` has the table of words."""
        step = max(1, -(-(int(counts.texts[-1]) + 1) // MAX_EXAMPLES))
        chosen = counts.texts % step == 0
        texts, words = counts.texts[chosen] // step, counts.words[counts.rows[chosen]]
        rows = np.searchsorted(model.words, words)
        known = model.words[np.minimum(rows, len(model.words) - 1)] == words
        weights = model.surprise[np.where(known, rows, -1)]
        lengths = np.sqrt(np.bincount(texts, weights**2))
        values = (weights / lengths[texts]).astype(np.float32)
        matrix = sparse.csr_matrix((values[known], (texts[known], rows[known])), shape=(len(lengths), len(model.words)))
        with one_thread():
            directions = principal_directions(matrix, COUNT)
        topics = matrix @ directions
        weighted = np.append(directions * model.surprise[:-1, None], np.zeros((1, COUNT)), axis=0)
        return cls(weighted.astype(np.float16), topics.mean(axis=0), inverse_deviations(topics))


class Topics(nn.Module):
    """Rows of words in a table [B, W], and their surprise, 0 outside of a text -> topics [B, COUNT]."""

    names = tuple(f"topic {number}" for number in range(1, COUNT + 1))

    def __init__(self, model: TopicModel) -> None:
        super().__init__()
        self.directions: Tensor
        self.means: Tensor
        self.scales: Tensor
        self.register_buffer("directions", torch.from_numpy(model.directions))
        self.register_buffer("means", torch.from_numpy(model.means))
        self.register_buffer("scales", torch.from_numpy(model.scales))

    def forward(self, rows: Tensor, surprise: Tensor) -> Tensor:
        sums = self.directions[rows].float().sum(dim=1)  # padding is in no table, so its row is 0
        lengths = surprise.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
        return (sums / lengths - self.means) * self.scales
