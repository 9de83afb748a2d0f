"""A transformer that reads tokens, pooled to one vector of features for each text."""

from typing import Any

import torch
from torch import Tensor, nn

POOLINGS = ("mean", "cls", "max")


class Pooled(nn.Module):
    """Tokens [B, T] int64 and their lengths [B] -> features [B, D]: the pooled last states of a frozen transformer.

    Tokens after a text's length are padding: no token attends to them, and they are not pooled. `first_position` is the
    position of the first token; `window` is how far a token of a local layer sees to each side (ModernBERT), None where
    all layers are global. `normalize` scales the features to length 1.

    Masks and positions are made here, and not by transformers, as a graph that is traced must not depend on the content
    of the tokens it was traced with, and RoBERTa's positions would depend on which id pads.
    """

    def __init__(
        self, transformer: nn.Module, *, pooling: str, normalize: bool, first_position: int, window: int | None
    ) -> None:
        super().__init__()
        self.transformer = transformer.eval().requires_grad_(False)
        self.pooling, self.normalize = pooling, normalize
        self.first_position, self.window = first_position, window

    def train(self, mode: bool = True) -> "Pooled":
        """Stay in evaluation mode: a frozen part has no dropout."""
        return self

    def forward(self, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        inside = positions < token_lengths[:, None]
        states = self.transformer(
            input_ids=tokens,
            attention_mask=self._masks(positions, inside),
            position_ids=(positions + self.first_position)[None],
        ).last_hidden_state
        pooled = self._pooled(states, inside, token_lengths)
        if self.normalize:
            pooled = pooled / pooled.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
        return pooled

    def _masks(self, positions: Tensor, inside: Tensor) -> Any:
        """Return what is added to the attention scores: 0, or the lowest number where a token is not seen."""
        seen = inside[:, None, None, :]
        if self.window is None:
            return _bias(seen)
        near = (positions[:, None] - positions[None, :]).abs() <= self.window
        return {"full_attention": _bias(seen), "sliding_attention": _bias(seen & near[None, None])}

    def _pooled(self, states: Tensor, inside: Tensor, token_lengths: Tensor) -> Tensor:
        if self.pooling == "cls":
            return states[:, 0]
        mask = inside[:, :, None]
        if self.pooling == "max":
            return states.masked_fill(~mask, torch.finfo(states.dtype).min).amax(dim=1)
        return (states * mask).sum(dim=1) / token_lengths[:, None]


def _bias(seen: Tensor) -> Tensor:
    """Return 0 where `seen`, else the lowest float32, whose softmax is exactly 0."""
    return (~seen).float() * torch.finfo(torch.float32).min
