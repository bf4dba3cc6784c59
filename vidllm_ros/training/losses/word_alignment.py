"""Scene tokens that point towards the words for what they show: auxiliary supervision that only training has.

A question about a chair finds the chair's tokens by attention. When a token's embedding already lies near the embedding
of "chair", and of its colour's name, that attention is nearly given; without, a small language model looks for it over
tens of thousands of questions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vidllm_ros.model.reasoning.language import LanguageModel
from vidllm_ros.model.reasoning.tokenizer import encode_text

_TEMPERATURE = 0.1


def word_embeddings(language: LanguageModel, words: Sequence[str]) -> Tensor:
    """Each word's embedding [W, hidden]: the mean over its tokens, as it stands within a sentence."""
    table = language.llm.get_input_embeddings()
    assert isinstance(table, torch.nn.Module)
    rows = [table(torch.tensor(encode_text(language.tokenizer, f" {word}"), device=language.device)) for word in words]
    return torch.stack([row.mean(dim=0) for row in rows])


def alignment_loss(tokens: Tensor, words: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy over words of the cosine similarities; 0 where nothing is known.

    Args:
        tokens: [T, hidden] embedded scene tokens.
        words: [W, hidden] word embeddings.
        wanted: int64 [T] index of the word, -1 for unknown.
    """
    logits = F.normalize(tokens, dim=-1) @ F.normalize(words, dim=-1).mT / _TEMPERATURE
    return F.cross_entropy(logits, wanted, ignore_index=-1).nan_to_num()
