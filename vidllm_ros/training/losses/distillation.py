"""Stage 1's losses: the adapter's two streams against two teachers (Eq. 5 to 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class DistillationWeights:
    """Weights of the terms of Eq. 5; 0 leaves a teacher out (Figure 5 of the paper).

    Args:
        geometry: of the patch features of the geometry teacher.
        language: of the pooled features of the semantic teacher.
        structure: lambda, of the structural consistency. The paper gives no value.
    """

    geometry: float = 1.0
    language: float = 1.0
    structure: float = 1.0


def patch_feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L_geo of Eq. 6: mean squared distance of L2-normalised tokens, 0 to 4.

    Args:
        student: [F, N, C] projected to the teacher's channels.
        teacher: [F, N, C].
    """
    return (F.normalize(student, dim=-1) - F.normalize(teacher, dim=-1)).square().sum(dim=-1).mean()


def pooled_feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L_lang of Eq. 6: 1 - cosine of each frame's mean token, averaged over frames, 0 to 2.

    Args:
        student: [F, N, C] projected to the teacher's channels.
        teacher: [F, M, C]; the grids need not agree.
    """
    return (1 - F.cosine_similarity(student.mean(dim=1), teacher.mean(dim=1), dim=-1)).mean()


def structural_consistency_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """L_sc of Eq. 7, for each frame on its own and averaged over frames.

    All pairwise similarities among a frame's M = 2N tokens, geometric and semantic, should be those of the teachers.
    Teachers of different width are compared as they are: the narrower is padded with zeros, which changes no length and
    no angle within it.

    Args:
        student: geometric and semantic tokens, each [F, N, C].
        teacher: geometric [F, N, C1] and semantic [F, N, C2] tokens on the student's grid.
    """
    similarities = []
    for streams in (student, teacher):
        width = max(stream.shape[-1] for stream in streams)
        z = torch.cat([F.pad(F.normalize(s, dim=-1), (0, width - s.shape[-1])) for s in streams], dim=1)
        similarities.append(z @ z.mT)
    return (similarities[0] - similarities[1]).square().mean()


def on_grid(tokens: Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """Tokens [F, N, C] of a grid (rows, columns), resampled bilinearly to another grid."""
    if grid == wanted:
        return tokens
    image = tokens.transpose(1, 2).unflatten(2, grid)
    resampled = F.interpolate(image, size=wanted, mode="bilinear", align_corners=False, antialias=True)
    return resampled.flatten(2).transpose(1, 2)


class DistillationLoss(nn.Module):
    """Eq. 5 with the linear layers that bring the student to each teacher's width.

    Args:
        dim: channels C of the adapter's streams.
        geometry_dim: channels of the geometry teacher.
        language_dim: channels of the semantic teacher.
        weights: of the terms.
    """

    def __init__(
        self, dim: int, geometry_dim: int, language_dim: int, weights: DistillationWeights | None = None
    ) -> None:
        super().__init__()
        self.weights = weights or DistillationWeights()
        self.to_geometry = nn.Linear(dim, geometry_dim)
        self.to_language = nn.Linear(dim, language_dim)

    def forward(
        self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum and its unweighted parts.

        Args:
            student: T'_geom and T'_lang, each [F, N, C].
            teacher: features of the geometry and the semantic teacher on the student's grid, [F, N, C1] and [F, N, C2].
        """
        parts = {
            "geometry": patch_feature_loss(self.to_geometry(student[0]), teacher[0]),
            "language": pooled_feature_loss(self.to_language(student[1]), teacher[1]),
            "structure": structural_consistency_loss(student, teacher),
        }
        total = torch.stack([getattr(self.weights, name) * value for name, value in parts.items()]).sum()
        return total, parts
