"""Many question-answer pairs behind one scene prefix, as a single sequence.

A scene has up to hundreds of tokens and a pair a few dozen. Packed, the scene is computed once for all its pairs. The
attention mask lets each pair see the scene and itself only, and positions restart after the scene, so every pair
computes what it would compute alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PREFIX, PADDING = 0, -1


@dataclass(frozen=True)
class Pair:
    """One question with its answer as token ids.

    Attributes:
        question: ids up to and including the mark after which the answer begins.
        answer: ids of the answer, its end mark included.
    """

    question: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Packed:
    """A batch of ``B`` packed sequences of ``L`` tokens; what follows the scene prefixes.

    Attributes:
        ids: [B, L] token ids; 0 in prefixes and padding.
        targets: [B, L] the id that each position should predict; -1 where there is none (all but answers).
        segments: [B, L] 0 in a scene prefix, 1, 2, ... in its pairs, -1 in padding.
        positions: [B, L] rotary positions.
    """

    ids: Tensor
    targets: Tensor
    segments: Tensor
    positions: Tensor


def pack(prefix_lengths: Sequence[int], pairs: Sequence[Sequence[Pair]], device: torch.device) -> Packed:
    """Lays out each scene's pairs behind a prefix of ``prefix_lengths`` tokens, padded on the right."""
    rows = []
    for length, row in zip(prefix_lengths, pairs, strict=True):
        ids, targets = [0] * length, [-1] * length
        segments, positions = [PREFIX] * length, list(range(length))
        for number, pair in enumerate(row, start=1):
            whole = pair.question + pair.answer
            ids += whole
            targets += [-1] * (len(pair.question) - 1) + list(pair.answer) + [-1]
            segments += [number] * len(whole)
            positions += range(length, length + len(whole))
        rows.append((ids, targets, segments, positions))
    longest = max(len(row[0]) for row in rows)
    fills = (0, -1, PADDING, 0)
    columns = [
        torch.tensor([row[k] + [fill] * (longest - len(row[k])) for row in rows], device=device)
        for k, fill in enumerate(fills)
    ]
    return Packed(*columns)


def attention_mask(queries: Tensor, keys: Tensor, dtype: torch.dtype, full_prefix: bool) -> Tensor:
    """Additive attention mask of packed sequences.

    Args:
        queries: [B, Q] segments of the last Q of the K tokens; all of them unless the rest is in a cache.
        keys: [B, K] segments.
        dtype: of the attention.
        full_prefix: prefix tokens see the whole prefix instead of the part before them.

    Returns:
        [B, 1, Q, K]: 0 where attention is allowed, the most negative number elsewhere.
    """
    count, total = queries.shape[1], keys.shape[1]
    order = torch.arange(total, device=keys.device)
    causal = order[None, :] <= order[total - count :, None]
    query, key = queries.unsqueeze(2), keys.unsqueeze(1)
    allowed = causal & ((key == query) | (key == PREFIX)) & (query != PADDING)
    if full_prefix:
        allowed = allowed | ((query == PREFIX) & (key == PREFIX))
    # A row without any allowed key would be 0 / 0: padding sees itself.
    allowed = allowed | ((query == PADDING) & (order[None, :] == order[total - count :, None]))
    mask = torch.zeros(allowed.shape, dtype=dtype, device=keys.device).masked_fill(~allowed, torch.finfo(dtype).min)
    return mask.unsqueeze(1)
