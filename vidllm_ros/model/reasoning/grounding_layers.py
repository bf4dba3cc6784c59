"""The parts of the grounding decoder: query seeds, and one decoder layer (LLaVA-3D v3, its section on grounding)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vidllm_ros.model.reasoning.patches import PositionEncoding


def farthest_points(positions: Tensor, count: int) -> Tensor:
    """Farthest point sampling: points that cover a scene evenly.

    Starts at the point farthest from the centroid, so that the choice does not depend on the order of the points.

    Args:
        positions: [T, 3] metres.
        count: how many to choose; all of them when there are fewer.

    Returns:
        [min(count, T)] indices, in the order of their choice.
    """
    count = min(count, len(positions))
    chosen = positions.new_zeros(count, dtype=torch.long)
    if count == 0:
        return chosen
    nearest = torch.full_like(positions[:, 0], math.inf)
    farthest = (positions - positions.mean(dim=0)).square().sum(dim=-1).argmax()
    for index in range(count):
        chosen[index] = farthest
        nearest = torch.minimum(nearest, (positions - positions[farthest]).square().sum(dim=-1))
        farthest = nearest.argmax()
    return chosen


class NeighbourAttention(nn.Module):
    """Each query attends to the scene tokens nearest to it; an MLP of their relative position joins keys and values.

    Args:
        dim: channels.
        heads: attention heads.
        neighbours: k.
        frequencies: Fourier octaves of the relative position.
    """

    def __init__(self, dim: int, heads: int, neighbours: int, frequencies: int) -> None:
        super().__init__()
        self.heads, self.neighbours = heads, neighbours
        # Runs for every pair of query and neighbour, so its hidden width is what the layer's time depends on.
        self.relative = PositionEncoding(2 * dim, max(dim // 2, 1), frequencies, period=4.0)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, tokens: Tensor, offsets: Tensor, nearest: Tensor) -> Tensor:
        """Attends.

        Args:
            queries: [P, Q, dim].
            tokens: [T, dim].
            offsets: [Q, T, 3] metres, from each query to each token.
            nearest: [Q, T] token indices by distance from each query; the first k are used.

        Returns:
            [P, Q, dim]
        """
        index = nearest[:, : self.neighbours]
        relative = offsets.gather(1, index.unsqueeze(-1).expand(-1, -1, 3))
        keys, values = (self.key_value(tokens)[index] + self.relative(relative)).chunk(2, dim=-1)
        split = (self.heads, queries.shape[-1] // self.heads)
        query = self.query(queries).unflatten(-1, split)
        keys, values = keys.unflatten(-1, split), values.unflatten(-1, split)
        # The geometry is the same for every phrase: keys and values are computed once for all P.
        weights = (torch.einsum("pqhd,qkhd->pqhk", query, keys) / math.sqrt(split[1])).softmax(dim=-1)
        return self.out(torch.einsum("pqhk,qkhd->pqhd", weights, values).flatten(-2))


class DistanceAttention(nn.Module):
    """Self-attention softmax(Q K^T / sqrt(C) - sigma D) among the queries and the ``<LOC>`` token.

    D is the distance between two queries in metres; each query predicts its own sigma >= 0, one for each head. Nothing
    to or from ``<LOC>`` is penalised.

    Args:
        dim: channels.
        heads: attention heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.sigma = nn.Linear(dim, heads)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, distances: Tensor) -> Tensor:
        """Attends.

        Args:
            tokens: [P, Q + 1, dim], ``<LOC>`` last.
            distances: [Q, Q] metres.

        Returns:
            [P, Q + 1, dim]
        """
        split = (3, self.heads, tokens.shape[-1] // self.heads)
        query, key, value = self.query_key_value(tokens).unflatten(-1, split).permute(2, 0, 3, 1, 4)
        sigma = nn.functional.softplus(self.sigma(tokens)).transpose(1, 2).unsqueeze(-1)
        penalty = nn.functional.pad(distances, (0, 1, 0, 1)).to(sigma) * sigma
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=-penalty)
        return self.out(attended.transpose(1, 2).flatten(-2))


class GroundingLayer(nn.Module):
    """Neighbour attention, distance-penalised self-attention with ``<LOC>``, MLP; each pre-normed and residual.

    Args:
        dim: channels.
        heads: attention heads.
        neighbours: k of the neighbour attention.
        frequencies: Fourier octaves of relative positions.
    """

    def __init__(self, dim: int, heads: int, neighbours: int, frequencies: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(3)])
        self.neighbour = NeighbourAttention(dim, heads, neighbours, frequencies)
        self.distance = DistanceAttention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(
        self, queries: Tensor, loc: Tensor, tokens: Tensor, offsets: Tensor, nearest: Tensor, distances: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Updates queries [P, Q, dim] and ``<LOC>`` tokens [P, dim]; the rest as in the attentions."""
        queries = queries + self.neighbour(self.norms[0](queries), tokens, offsets, nearest)
        joint = torch.cat([queries, loc.unsqueeze(1)], dim=1)
        joint = joint + self.distance(self.norms[1](joint), distances)
        joint = joint + self.mlp(self.norms[2](joint))
        return joint[:, :-1], joint[:, -1]
