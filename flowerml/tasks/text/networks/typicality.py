"""How unlike the training texts a text is: how rare its words are, and how unusual the order that they come in.

Both are means of log probabilities under a model of word pairs counted on the training texts (absolute discounting, of
Ney, Essen & Kneser, 1994): the first over words alone, the second the information that a word's neighbor gives of it,
which is low in a list of words. Texts in another language and letters at random have rare words; words of the
dictionary at random have an unusual order; of other topics both are true.

The means of short texts vary more, so both are standardized by the mean and the deviation that excerpts of the training
texts of that length have, each text under the counts of the others; and divided by what 2 % of these exceed, as one of
them has more outliers than the other. The larger of the two is the answer. On tickets, film reviews and others a
detector that also used the share of unknown words, the cosine to the mean text or the probability of pairs was no
better than these two, and their sum or Mahalanobis distance worse.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowerml.data.encodings import Vectors
from flowerml.engine.components import Components
from flowerml.engine.feature_distance import MAX_EXAMPLES, MIN_UPPER, UPPER, FeatureDistance, fit_feature_distance
from flowerml.tasks.records import STRANGEST, Detector
from flowerml.tasks.text.networks.batches import Sequences
from flowerml.tasks.text.networks.lookup import Lookup
from flowerml.tasks.text.networks.topics import TopicModel, Topics
from flowerml.tasks.text.networks.word_pairs import HeldOut, PairCounts, PairModel, pair_ids

KNOTS = 12  # lengths 1, 2, 4, …, 2048, between which means and deviations are interpolated
FEW = 20  # texts of about a length; with fewer the deviation of all lengths has the larger weight
MIN_DEVIATION = 1e-3
OF_WORDS = ("known words", "rare words", "unusual order")

Float = NDArray[np.float64]


class TextDetector(nn.Module):
    """Words [B, W] with their lengths [B] -> (strangeness [B] > 0, features [B, F]).

    The strangeness is STRANGEST for a text none of whose words is known. The features are the share of known words, the
    two scores, and what the text is about. With `Pretrained` parts it reads the features [B, D] of a pretrained
    encoder, too: the largest of three scores counts, and their components say what the text is about.
    """

    def __init__(self, model: PairModel, norms: "Norms", about: "Topics | Pretrained") -> None:
        super().__init__()
        self.about = about
        self.reads = ("words", "word_lengths", *(("features",) if isinstance(about, Pretrained) else ()))
        self.features = (*OF_WORDS, *about.names)
        self.words, self.pairs = Lookup(model.words), Lookup(model.pairs)
        self.surprise: Tensor
        self.backoff: Tensor
        self.is_word: Tensor
        self.gain: Tensor
        self.means: Tensor
        self.deviations: Tensor
        self.register_buffer("surprise", torch.from_numpy(model.surprise.astype(np.float32)))
        self.register_buffer("backoff", torch.from_numpy(model.backoff.astype(np.float32)))
        self.register_buffer("is_word", torch.from_numpy(model.is_word.astype(np.float32)))
        self.register_buffer("gain", torch.from_numpy(model.gain.astype(np.float16)))
        self.register_buffer("means", torch.from_numpy(norms.means.astype(np.float32)))
        self.register_buffer("deviations", torch.from_numpy(norms.deviations.astype(np.float32)))

    def forward(self, words: Tensor, word_lengths: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        positions = torch.arange(words.shape[1], device=words.device)
        lengths = word_lengths[:, None]
        rows = self.words(words)
        inside = (positions < lengths).float()
        surprises = self.surprise[rows] * inside
        surprise = surprises.sum(dim=1) / word_lengths
        known = (self.is_word[rows] * inside).sum(dim=1)
        # Shift, not slice: a text of one word has no pair.
        following = torch.cat([words[:, 1:], torch.zeros_like(words[:, :1])], dim=1)
        pairs = self.pairs(pair_ids(words, following))
        gains = torch.where(pairs < self.pairs.count, self.gain[pairs].float(), -self.backoff[rows])
        gain = (gains * (positions + 1 < lengths)).sum(dim=1) / (word_lengths - 1).clamp(min=1)
        means = torch.stack([surprise, -gain], dim=1)
        knots = torch.arange(KNOTS, device=words.device)
        logarithms = word_lengths.float().log2().clamp(max=KNOTS - 1)
        weights = (1 - (logarithms[:, None] - knots).abs()).clamp(min=0)
        scores = (means - weights @ self.means) / (weights @ self.deviations)
        share = ((rows < self.words.count) * inside).sum(dim=1) / word_lengths
        if isinstance(self.about, Pretrained):
            about = self.about.components(features)
            highest = torch.cat([scores, self.about.distance(features)[:, None]], dim=1).max(dim=1).values
        else:
            about = self.about(rows, surprises)
            highest = scores.max(dim=1).values
        strangeness = torch.where(known > 0, nn.functional.softplus(highest), STRANGEST)
        return strangeness, torch.cat([share[:, None], scores, about], dim=1)


class Pretrained(nn.Module):
    """What is read of the features of a pretrained encoder: how far they are, and their components."""

    names = Components.names

    def __init__(self, distance: FeatureDistance, components: Components) -> None:
        super().__init__()
        self.distance, self.components = distance, components


@dataclass(frozen=True)
class Norms:
    """Mean and standard deviation [KNOTS, 2] of the features of texts of a length."""

    means: Float
    deviations: Float

    @classmethod
    def of(cls, features: Float, lengths: NDArray[np.int64]) -> Self:
        """Return the norms of texts with features [N, 2] and lengths [N]."""
        weights = _knot_weights(lengths)
        sums = weights.sum(axis=0)[:, None]
        means = (weights.T @ features + MIN_DEVIATION * features.mean(axis=0)) / (sums + MIN_DEVIATION)
        residuals = (features - weights @ means) ** 2
        variances = (weights.T @ residuals + FEW * residuals.mean(axis=0)) / (sums + FEW)
        # Lengths that hardly occur take the norms of the nearest that do.
        usual = np.flatnonzero(sums >= min(FEW, sums.max()))
        nearest = usual[np.abs(np.arange(KNOTS)[:, None] - usual).argmin(axis=1)]
        return cls(means[nearest], np.sqrt(variances[nearest]).clip(min=MIN_DEVIATION))

    def scaled(self, factors: Float) -> Self:
        """Return norms under which scores are divided by the factors [2]."""
        return type(self)(self.means, self.deviations * factors)

    def scores(self, held_out: HeldOut) -> Float:
        """Return the standardized features, [N, 2]."""
        weights = _knot_weights(held_out.lengths)
        return np.asarray((held_out.features - weights @ self.means) / (weights @ self.deviations))


def fit_text_detector(texts: Sequences, features: NDArray[np.float32] | Vectors | None) -> Detector:
    """Return the detector of the training texts, each of them the hashes of its words.

    `features` [N, D] are those of a pretrained encoder that the graph has, too.
    """
    counts = PairCounts.of(texts)
    whole, excerpts = counts.held_out()
    norms = Norms.of(
        np.concatenate([whole.features, excerpts.features]), np.concatenate([whole.lengths, excerpts.lengths])
    )
    norms = norms.scaled(np.quantile(norms.scores(whole), UPPER, axis=0).clip(min=MIN_UPPER))
    highest = norms.scores(whole).max(axis=1)
    model = counts.model()
    about: Topics | Pretrained
    if features is None:
        about = Topics(TopicModel.of(counts, model))
    else:
        # Only those that would be clustered are read into memory.
        rows = features[:: max(1, -(-len(features) // MAX_EXAMPLES))]
        distance, distances = fit_feature_distance(rows)
        about = Pretrained(distance, Components.fit(rows))
        # Which texts are held out differs, and few are strange in both ways: the pairs may be random ones.
        highest = np.maximum(highest, np.resize(distances, len(highest)))
    held_out = np.where(whole.known, np.logaddexp(0, highest), STRANGEST)
    return Detector(TextDetector(model, norms, about).eval(), held_out)


def _knot_weights(lengths: NDArray[np.int64]) -> Float:
    """Return the weight of each knot for texts of these lengths, [N, KNOTS]; they sum to 1."""
    logarithms = np.minimum(np.log2(lengths), KNOTS - 1)
    return (1 - np.abs(logarithms[:, None] - np.arange(KNOTS))).clip(min=0)
