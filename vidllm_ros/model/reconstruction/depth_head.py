"""DPT head for relative depth and its confidence (paper section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidllm_ros.model.config import DepthHeadConfig
from vidllm_ros.model.reconstruction.dpt import DPTDecoder, add_uv


class DepthHead(nn.Module):
    """Backbone tokens to depth in the window's relative unit; exp and 1 + exp keep depth and confidence positive."""

    def __init__(self, config: DepthHeadConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        features = config.features
        if features % 8:
            raise ValueError(f"depth_head.features is {features}; it must be a multiple of 8")
        self.decoder = DPTDecoder(dim, features, config.channels)
        self.conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(features // 2, config.head_features, 3, padding=1)
        self.conv3 = nn.Conv2d(config.head_features, 2, 1)

    def forward(
        self, layers: list[Tensor], grid: tuple[int, int], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Four [B, S, N, D] patch token layers to depth and confidence, each [B, S, H, W]."""
        b, s = layers[0].shape[:2]
        flat = [layer.flatten(0, 1) for layer in layers]
        chunks = zip(*(layer.split(self.config.frames_chunk) for layer in flat), strict=True)
        out = torch.cat([self._decode(list(chunk), grid, image_size) for chunk in chunks])
        depth, confidence = out.unflatten(0, (b, s)).unbind(2)
        return depth.exp(), 1 + confidence.exp()

    def _decode(self, layers: list[Tensor], grid: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
        # To float32 chunk by chunk: all frames at once would double what the window holds.
        x = self.conv1(self.decoder([layer.to(self.conv1.weight.dtype) for layer in layers], grid))
        x = F.interpolate(x, size=image_size, mode="bilinear", align_corners=True)
        x = add_uv(x, image_size[1] / image_size[0])
        return self.conv3(F.relu(self.conv2(x)))
