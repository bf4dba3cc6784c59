"""DPT decoder: patch tokens of four layers to a dense feature map (Ranftl et al., as used by VGGT)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def uv_embedding(channels: int, height: int, width: int, aspect: float, device: torch.device) -> Tensor:
    """Sine and cosine embedding of image position, [channels, height, width].

    Coordinates are centred and normalised by the image diagonal, so they keep the aspect ratio ``aspect`` = W / H.
    """
    diagonal = math.sqrt(aspect * aspect + 1)
    span_x, span_y = aspect / diagonal, 1 / diagonal
    x = torch.linspace(-span_x * (width - 1) / width, span_x * (width - 1) / width, width, device=device)
    y = torch.linspace(-span_y * (height - 1) / height, span_y * (height - 1) / height, height, device=device)
    quarter = channels // 4
    omega = 100.0 ** (-torch.arange(quarter, device=device, dtype=torch.float64) / quarter)

    def waves(coordinate: Tensor) -> Tensor:
        angle = coordinate.double()[:, None] * omega
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    along_x = waves(x)[None].expand(height, -1, -1)
    along_y = waves(y)[:, None].expand(-1, width, -1)
    return torch.cat([along_x, along_y], dim=-1).permute(2, 0, 1).float()


def add_uv(x: Tensor, aspect: float) -> Tensor:
    """Add a faint position embedding to a feature map [F, C, h, w]."""
    return x + 0.1 * uv_embedding(x.shape[1], x.shape[2], x.shape[3], aspect, x.device).to(x.dtype)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions with a skip that carries the rectified input.

    VGGT's first ReLU works in place, so its released weights were trained with ``relu(x)`` on the skip, not ``x``.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[F, C, h, w] to the same shape."""
        x = F.relu(x)
        return x + self.conv2(F.relu(self.conv1(x)))


class Fusion(nn.Module):
    """Adds a finer level to the running map and upsamples; the deepest level has nothing to add."""

    def __init__(self, features: int, deepest: bool = False) -> None:
        super().__init__()
        self.unit1 = None if deepest else ResidualUnit(features)
        self.unit2 = ResidualUnit(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, x: Tensor, finer: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """Running map and finer level [F, C, h, w] to [F, C, *size]; twice the size when none is given."""
        if self.unit1 is not None and finer is not None:
            x = x + self.unit1(finer)
        x = self.unit2(x)
        target = size or (2 * x.shape[-2], 2 * x.shape[-1])
        return self.out_conv(F.interpolate(x, size=target, mode="bilinear", align_corners=True))


class DPTDecoder(nn.Module):
    """Reassembles tokens of four layers into a pyramid and fuses it from coarse to fine."""

    def __init__(
        self, dim: int, features: int, channels: tuple[int, int, int, int], upsample_last: bool = True
    ) -> None:
        super().__init__()
        if any(c % 4 for c in channels):
            raise ValueError(f"DPT channels {tuple(channels)} must be multiples of 4: sine and cosine of x and of y")
        self.upsample_last = upsample_last
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.projects = nn.ModuleList(nn.Conv2d(dim, c, 1) for c in channels)
        self.resize = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            ]
        )
        self.level_convs = nn.ModuleList(nn.Conv2d(c, features, 3, padding=1, bias=False) for c in channels)
        self.fusions = nn.ModuleList(Fusion(features, deepest=level == 3) for level in range(4))

    def forward(self, layers: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """Four [F, N, D] patch token layers, N = rows * columns of ``grid``, to a map [F, features, h, w].

        h and w are eight times the grid, or four times without the last upsampling.
        """
        aspect = grid[1] / grid[0]
        levels = []
        for tokens, project, resize, conv in zip(layers, self.projects, self.resize, self.level_convs, strict=True):
            x = self.norm(tokens).transpose(1, 2).unflatten(2, grid)
            levels.append(conv(resize(add_uv(project(x), aspect))))
        x = self.fusions[3](levels[3], size=levels[2].shape[-2:])
        x = self.fusions[2](x, levels[2], size=levels[1].shape[-2:])
        x = self.fusions[1](x, levels[1], size=levels[0].shape[-2:])
        return self.fusions[0](x, levels[0], size=None if self.upsample_last else levels[0].shape[-2:])
