"""Grounding: from a ``<LOC>`` state to boxes in the scene (paper section 3.3, which follows LLaVA-3D v3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vidllm_ros.model.outputs import Box3D, SceneTokens
from vidllm_ros.model.reasoning.boxes import box_from_vector, points_inside, suppress, vote
from vidllm_ros.model.reasoning.grounding_layers import GroundingLayer, farthest_points
from vidllm_ros.model.reasoning.patches import PositionEncoding

_MAX_LOG_SIZE = 3.0  # 20 m; beyond, exp would overflow before it learns


@dataclass(frozen=True)
class GroundingConfig:
    """Sizes of the grounding decoder.

    Args:
        feature_dim: channels of the scene tokens.
        state_dim: channels of the ``<LOC>`` states: the language model's hidden size.
        dim: channels of the decoder.
        heads: attention heads.
        queries: instance queries.
        neighbours: k of each layer's neighbour attention; one layer for each entry.
        frequencies: Fourier octaves of positions.
        yaw: predict a turn about z; otherwise boxes lie along the scene's axes.
        temperature: of the cosine similarity between query and ``<LOC>``.
        max_iou: of two boxes of one phrase that overlap more, the weaker is dropped.
        vote_reach: metres around a box within which all queries of the phrase vote on it (see ``boxes.vote``).
    """

    feature_dim: int
    state_dim: int
    dim: int = 128
    heads: int = 4
    queries: int = 64
    neighbours: tuple[int, ...] = (16, 32, 64)
    frequencies: int = 6
    yaw: bool = True
    temperature: float = 0.07
    max_iou: float = 0.25
    vote_reach: float = 0.3

    def __post_init__(self) -> None:
        for name in ("feature_dim", "state_dim", "dim", "heads", "queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"grounding.{name} is {getattr(self, name)}; it must be at least 1")
        if self.dim % self.heads:
            raise ValueError(f"grounding.dim is {self.dim}; it must be a multiple of grounding.heads, {self.heads}")
        if not self.neighbours or min(self.neighbours) < 1:
            raise ValueError(f"grounding.neighbours is {self.neighbours}; give at least one layer, each at least 1")
        if self.frequencies < 0:
            raise ValueError(f"grounding.frequencies is {self.frequencies}; it must be at least 0")
        if not self.temperature > 0:
            raise ValueError(f"grounding.temperature is {self.temperature}; it must be positive")
        if not 0 <= self.max_iou <= 1:
            raise ValueError(f"grounding.max_iou is {self.max_iou}; it must be between 0 and 1")
        if not 0 <= self.vote_reach < math.inf:
            raise ValueError(f"grounding.vote_reach is {self.vote_reach}; give metres, 0 for no vote")


@dataclass(frozen=True)
class GroundingOutput:
    """What the decoder predicts for ``P`` phrases with ``Q`` queries, after each of ``L`` layers.

    Attributes:
        query_positions: [Q, 3] metres in the scene frame.
        boxes: [L, P, Q, 7] box vectors (see ``boxes``) in the scene frame, written with the long side first.
        directions: [L, P, Q, 2] sine and cosine of twice the yaw, of any length: what the yaw is learned on.
        logits: [L, P, Q] cosine similarity of query and ``<LOC>`` over the temperature.
        none_logits: [L, P] the same for the learned zero-target vector: "no such object".
    """

    query_positions: Tensor
    boxes: Tensor
    directions: Tensor
    logits: Tensor
    none_logits: Tensor

    @property
    def scores(self) -> Tensor:
        """[P, Q] probability of the last layer's queries against "no such object".

        Trained towards 0 on anything else and (1 + IoU) / 2 on a named object.
        """
        return (self.logits[-1] - self.none_logits[-1].unsqueeze(-1)).sigmoid()


def _projector(dim_in: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim_in, dim), nn.ReLU(), nn.LayerNorm(dim), nn.Linear(dim, dim))


class GroundingDecoder(nn.Module):
    """Finds the objects that ``<LOC>`` states name.

    Args:
        config: sizes.
    """

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.token_in = nn.Sequential(nn.LayerNorm(config.feature_dim), nn.Linear(config.feature_dim, dim))
        self.loc_in = nn.Sequential(nn.LayerNorm(config.state_dim), nn.Linear(config.state_dim, dim))
        self.position = PositionEncoding(dim, dim, config.frequencies)
        self.layers = nn.ModuleList(GroundingLayer(dim, config.heads, k, config.frequencies) for k in config.neighbours)
        self.box_heads = nn.ModuleList(_box_head(dim) for _ in config.neighbours)
        self.query_match, self.loc_match = _projector(dim, dim), _projector(dim, dim)
        self.zero_target = nn.Parameter(torch.randn(dim))
        self.object_match, self.phrase_match = _projector(dim, dim), _projector(dim, dim)
        self.zero_proposal = nn.Parameter(torch.randn(dim))

    def forward(self, scene: SceneTokens, states: Tensor) -> GroundingOutput:
        """Decodes boxes for every phrase.

        Args:
            scene: T tokens.
            states: [P, state_dim] ``<LOC>`` states.

        Returns:
            min(queries, T) queries for each phrase.
        """
        positions = scene.positions.float()
        tokens = self.token_in(self._cast(scene.features))
        seeds = positions[farthest_points(positions, self.config.queries)]
        offsets = positions.unsqueeze(0) - seeds.unsqueeze(1)
        nearest = (
            offsets.square()
            .sum(dim=-1)
            .topk(min(max(self.config.neighbours), len(positions)), dim=-1, largest=False)
            .indices
        )
        distances = (seeds.unsqueeze(0) - seeds.unsqueeze(1)).norm(dim=-1)
        loc = self.loc_in(self._cast(states))
        # Zero content plus the embedded coordinate: before the first layer a query knows only where it is.
        queries = self.position(seeds).unsqueeze(0).expand(len(states), -1, -1)
        raw, logits, none_logits = [], [], []
        for layer, head in zip(self.layers, self.box_heads, strict=True):
            queries, loc = layer(queries, loc, tokens, offsets, nearest, distances)
            raw.append(head(queries))
            target = self.loc_match(loc)
            logits.append(self._similarity(self.query_match(queries), target.unsqueeze(1)))
            none_logits.append(self._similarity(self.zero_target, target))
        stacked = torch.stack(raw)
        boxes, directions = self._boxes(stacked, seeds), stacked[..., 6:]
        return GroundingOutput(seeds, boxes, directions, torch.stack(logits), torch.stack(none_logits))

    def score_proposals(self, boxes: Tensor, scene: SceneTokens, states: Tensor) -> Tensor:
        """Scores given boxes, the protocol of ScanRefer and Multi3DRefer evaluations with instance proposals.

        An object's feature is the mean of the tokens within its box plus the embedded centre of the box.

        Args:
            boxes: [M, 7] box vectors in the scene frame.
            scene: T tokens.
            states: [P, state_dim] ``<LOC>`` states.

        Returns:
            [P, M + 1] cosine similarity over the temperature; the last column is "none of them".
        """
        inside = points_inside(scene.positions.float(), boxes.float()).to(self.zero_proposal.dtype)
        tokens = self.token_in(self._cast(scene.features))
        mean = inside @ tokens / inside.sum(dim=-1, keepdim=True).clamp(min=1)
        objects = self.object_match(mean + self.position(boxes[:, :3]))
        candidates = torch.cat([objects, self.zero_proposal.unsqueeze(0)])
        phrases = self.phrase_match(self.loc_in(self._cast(states)))
        return self._similarity(candidates.unsqueeze(0), phrases.unsqueeze(1))

    @torch.no_grad()
    def locate(self, scene: SceneTokens, states: Tensor, labels: Sequence[str], min_score: float = 0.3) -> list[Box3D]:
        """The boxes of every phrase, in the scene frame, best first within a phrase.

        Args:
            scene: T tokens.
            states: [P, state_dim] ``<LOC>`` states.
            labels: P labels for the boxes.
            min_score: the least probability against "no such object".

        Raises:
            ValueError: ``min_score`` is not a probability, or states and labels differ in number.
        """
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score is {min_score}; it must be between 0 and 1")
        if len(states) != len(labels):
            raise ValueError(f"{len(labels)} labels for {len(states)} states")
        if len(scene.positions) == 0 or not labels:
            return []
        output = self(scene, states)
        found = []
        everything = (output.boxes[-1].double().cpu().numpy(), output.scores.double().cpu().numpy())
        for label, boxes, scores in zip(labels, *everything, strict=True):
            good = np.flatnonzero(scores >= min_score)
            best = good[suppress(boxes[good], scores[good], self.config.max_iou)].tolist()
            voted = vote(boxes, scores, best, self.config.vote_reach)
            found += [box_from_vector(box, label, float(scores[i])) for box, i in zip(voted, best, strict=True)]
        return found

    def _boxes(self, raw: Tensor, seeds: Tensor) -> Tensor:
        raw = raw.float()
        centre = seeds + raw[..., :3]
        size = raw[..., 3:6].clamp(max=_MAX_LOG_SIZE).exp()
        # Half a turn leaves a box the same, so the network predicts sine and cosine of twice the yaw.
        yaw = torch.atan2(raw[..., 6:7], raw[..., 7:8]) / 2 if self.config.yaw else torch.zeros_like(raw[..., :1])
        return torch.cat([centre, size, yaw], dim=-1)

    def _similarity(self, first: Tensor, second: Tensor) -> Tensor:
        return nn.functional.cosine_similarity(first.float(), second.float(), dim=-1) / self.config.temperature

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.zero_target.dtype)


def _box_head(dim: int) -> nn.Sequential:
    last = nn.Linear(dim, 8)
    # Starts as a box of half a metre at its query, along the axes, away from the pole of atan2.
    nn.init.normal_(last.weight, std=1e-2)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([0.0, 0.0, 0.0, *[math.log(0.5)] * 3, 0.0, 1.0]))
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), last)
