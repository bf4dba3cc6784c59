"""Global-Frame attention backbone (paper section 3.2, after VGGT's alternating attention)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidllm_ros.model.config import BackboneConfig
from vidllm_ros.model.reconstruction.layers import Block
from vidllm_ros.model.reconstruction.rope import RotaryEmbedding2D, patch_positions


class GlobalFrameBackbone(nn.Module):
    """Alternates attention within each frame and across all frames of a window.

    Each frame carries a camera token and register tokens in front of its patches. Both exist twice: one set for the
    first frame, whose camera is the world, and one for all others. There is no frame index, so every frame but the
    first is treated alike.
    """

    def __init__(self, config: BackboneConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.special_tokens = 1 + config.registers
        self.camera_token = nn.Parameter(torch.randn(1, 2, 1, dim) * 1e-6)
        self.register_token = nn.Parameter(torch.randn(1, 2, config.registers, dim) * 1e-6)
        rope = RotaryEmbedding2D(config.rope_base)

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                Block(dim, config.heads, config.mlp_ratio, config.layer_scale, qk_norm=True, rope=rope)
                for _ in range(config.pairs)
            )

        self.frame_blocks = blocks()
        self.global_blocks = blocks()

    def _first_and_others(self, parameter: Tensor, batch: int, frames: int) -> Tensor:
        first = parameter[:, :1].expand(batch, 1, -1, -1)
        others = parameter[:, 1:].expand(batch, frames - 1, -1, -1)
        return torch.cat([first, others], dim=1)

    def forward(self, geometry: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """Run the alternating blocks.

        Args:
            geometry: T'_geom [B, S, N, C], patches row-major.
            grid: (rows, columns) of patches, N = rows * columns.

        Returns:
            One [B, S, 1 + R + N, 2C] for each of ``head_layers``: the frame block's and the global block's output side
            by side; token 0 is the camera token, R register tokens follow, then the patches.
        """
        b, s, _, c = geometry.shape
        camera = self._first_and_others(self.camera_token, b, s)
        registers = self._first_and_others(self.register_token, b, s)
        x = torch.cat([camera, registers, geometry], dim=2)
        p = x.shape[2]
        positions = patch_positions(grid, self.special_tokens, x.device)
        positions_all = positions.repeat(s, 1)
        kept: list[Tensor] = []
        # Only the layers that a head reads are kept; the other concatenations would dominate the memory.
        for i, (frame_block, global_block) in enumerate(zip(self.frame_blocks, self.global_blocks, strict=True)):
            in_frame = frame_block(x.reshape(b * s, p, c), positions).view(b, s, p, c)
            x = global_block(in_frame.reshape(b, s * p, c), positions_all).view(b, s, p, c)
            kept += [torch.cat([in_frame, x], dim=-1)] * self.config.head_layers.count(i)
        return kept
