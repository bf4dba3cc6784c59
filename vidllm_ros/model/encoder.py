"""The shared DINOv2 encoder (paper section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from vidllm_ros.model.config import EncoderConfig

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """DINOv2 with registers; one frame at a time, so its output can be kept and reused by every window."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        self.dinov2 = Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(
                hidden_size=config.dim,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                mlp_ratio=config.mlp_ratio,
                num_register_tokens=config.registers,
                patch_size=config.patch_size,
                image_size=config.position_grid * config.patch_size,
                layerscale_value=config.layer_scale,
                layer_norm_eps=1e-6,
                qkv_bias=True,
            )
        )
        # The mask token only serves masked pre-training; leaving it trainable would report a parameter without
        # gradient.
        self.dinov2.embeddings.mask_token.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Encode frames.

        Args:
            images: float [F, 3, H, W], RGB in [0, 1], sides multiples of the patch size.

        Returns:
            [F, L, N, C]: patch tokens, row-major, of the configured layers; each passed through the final LayerNorm.
            The last of the ``L`` is the encoder's output T_base.
        """
        height, width = images.shape[-2:]
        patch = self.config.patch_size
        if height % patch or width % patch:
            raise ValueError(f"image sides {height} x {width} are not multiples of the patch size {patch}")
        skipped = 1 + self.config.registers
        pixels = ((images - self.mean) / self.std).to(self.dinov2.dtype)
        states = self.dinov2.embeddings(pixels)
        kept = []
        # Layer by layer: the states of all layers together would dominate the memory.
        for index, layer in enumerate(self.dinov2.encoder.layer):
            states = layer(states)
            if index in self.config.feature_layers:
                kept.append(self.dinov2.layernorm(states)[:, skipped:])
        return torch.stack(kept, dim=1)
