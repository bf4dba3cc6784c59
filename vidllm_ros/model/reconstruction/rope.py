"""Two-dimensional rotary position embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RotaryEmbedding2D(nn.Module):
    """Rotates query and key channels by patch row and column (as in VGGT's backbone).

    The first half of a head's channels encodes the row, the second half the column; inside each half, channel ``i``
    turns together with channel ``i + D/4``. Has no parameters.
    """

    def __init__(self, base: float = 100.0) -> None:
        super().__init__()
        self.base = base

    def _rotate(self, x: Tensor, index: Tensor) -> Tensor:
        quarter = x.shape[-1] // 2
        frequency = self.base ** (-torch.arange(quarter, device=x.device, dtype=torch.float32) / quarter)
        angle = index.to(torch.float32)[:, None] * frequency
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = x[..., :quarter], x[..., quarter:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotate ``x`` [B, heads, N, D] (D a multiple of 4) by integer (row, column) ``positions`` [N, 2]."""
        half = x.shape[-1] // 2
        rows = self._rotate(x[..., :half], positions[:, 0])
        columns = self._rotate(x[..., half:], positions[:, 1])
        return torch.cat([rows, columns], dim=-1)


def patch_positions(grid: tuple[int, int], special_tokens: int, device: torch.device) -> Tensor:
    """(row, column) + 1 of every patch, row-major, behind ``special_tokens`` entries at (0, 0), [special + N, 2]."""
    rows, columns = torch.meshgrid(
        torch.arange(grid[0], device=device), torch.arange(grid[1], device=device), indexing="ij"
    )
    patches = torch.stack([rows.flatten(), columns.flatten()], dim=-1) + 1
    return torch.cat([patches.new_zeros(special_tokens, 2), patches])
