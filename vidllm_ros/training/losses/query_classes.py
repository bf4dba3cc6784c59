"""What each grounding query stands on: auxiliary supervision that only training has.

Matching a phrase to one of a hundred queries teaches two things at once, what a query shows and what a phrase means,
and is slow at both. Every query's class is known, so the first can be taught on its own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidllm_ros.model.reasoning.grounding import GroundingDecoder

_STRUCTURE_WEIGHT = 0.2  # most seeds lie on walls and floor


class QueryClassifier(nn.Module):
    """A linear reading of the queries after every decoder layer."""

    def __init__(self, decoder: GroundingDecoder, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(decoder.config.dim, classes + 1)
        self.queries: list[Tensor] = []
        decoder.register_forward_pre_hook(self._forget)
        for layer in decoder.layers:
            layer.register_forward_hook(self._remember)

    def _forget(self, module: nn.Module, args: Any) -> None:
        self.queries = []

    def _remember(self, module: nn.Module, args: Any, output: tuple[Tensor, Tensor]) -> None:
        self.queries.append(output[0])

    def forward(self, shown: Tensor) -> Tensor:
        """Cross-entropy of the decoder's last run.

        Args:
            shown: int64 [Q] class of what each query's seed shows, -1 for walls, floor and ceiling.
        """
        logits = self.head(torch.stack(self.queries))  # [L, P, Q, classes + 1]
        structure = logits.shape[-1] - 1
        target = torch.where(shown >= 0, shown, structure).expand(logits.shape[:-1])
        weights = logits.new_ones(structure + 1)
        weights[structure] = _STRUCTURE_WEIGHT
        return F.cross_entropy(logits.flatten(0, -2), target.flatten(), weights)
