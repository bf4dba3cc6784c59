"""Camera head: iterative refinement of pose and field of view (paper section 3.2, after VGGT)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidllm_ros.model.config import CameraHeadConfig
from vidllm_ros.model.reconstruction.layers import Block, Mlp

ENCODING = 9


class CameraHead(nn.Module):
    """Reads the camera tokens and refines an absT_quaR_FoV encoding a few times.

    Each iteration modulates the tokens by the previous estimate (adaptive LayerNorm), lets the camera tokens of the
    window attend to each other and adds a correction.
    """

    def __init__(self, config: CameraHeadConfig, dim: int) -> None:
        super().__init__()
        self.iterations = config.iterations
        self.token_norm = nn.LayerNorm(dim, eps=1e-5)
        self.trunk = nn.ModuleList(
            Block(dim, config.heads, config.mlp_ratio, config.layer_scale) for _ in range(config.blocks)
        )
        self.trunk_norm = nn.LayerNorm(dim, eps=1e-5)
        self.empty_pose = nn.Parameter(torch.zeros(1, 1, ENCODING))
        self.embed_pose = nn.Linear(ENCODING, dim)
        self.modulation = nn.Linear(dim, 3 * dim)
        self.adaptive_norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.pose_branch = Mlp(dim, dim // 2, ENCODING)
        with torch.no_grad():
            # Untrained, the sum of all corrections is the identity pose with a one-radian view, where no ReLU is dead.
            self.pose_branch.fc2.weight.mul_(0.1)
            start = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 1, 1])
            self.pose_branch.fc2.bias.copy_(start / config.iterations)

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Camera tokens [B, S, D] to one activated encoding [B, S, 9] per iteration, the best one last."""
        tokens = self.token_norm(tokens)
        b, s, _ = tokens.shape
        encoding: Tensor | None = None
        encodings = []
        for _ in range(self.iterations):
            # Each iteration answers for its own correction only.
            encoding = None if encoding is None else encoding.detach()
            previous = self.empty_pose.expand(b, s, -1) if encoding is None else encoding
            shift, scale, gate = self.modulation(F.silu(self.embed_pose(previous))).chunk(3, dim=-1)
            x = gate * (self.adaptive_norm(tokens) * (1 + scale) + shift) + tokens
            for block in self.trunk:
                x = block(x)
            correction = self.pose_branch(self.trunk_norm(x))
            encoding = correction if encoding is None else encoding + correction
            encodings.append(torch.cat([encoding[..., :7], F.relu(encoding[..., 7:])], dim=-1))
        return tuple(encodings)
