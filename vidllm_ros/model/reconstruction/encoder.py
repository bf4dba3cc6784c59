"""The shared DINOv2 encoder (paper section 3.1)."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from vidllm_ros.model.config import EncoderConfig

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)

# The names of transformers 5.0 and those of 5.23, which checkpoints hold whatever version wrote them.
RENAMED = {
    ".attention.attention.query.": ".attention.q_proj.",
    ".attention.attention.key.": ".attention.k_proj.",
    ".attention.attention.value.": ".attention.v_proj.",
    ".attention.output.dense.": ".attention.o_proj.",
}


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
        keep_checkpoint_names(self.dinov2)

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


def keep_checkpoint_names(dinov2: nn.Module) -> None:
    """Make a DINOv2 of any transformers 5 write and read tensors under the names that checkpoints have."""
    if any(old in name for name in dinov2.state_dict() for old in RENAMED):
        dinov2.register_state_dict_post_hook(_to_checkpoint_names)
        dinov2.register_load_state_dict_pre_hook(_from_checkpoint_names)


def _to_checkpoint_names(module: nn.Module, state: MutableMapping[str, Any], prefix: str, *_: Any) -> None:
    _rename(state, prefix, RENAMED)


def _from_checkpoint_names(module: nn.Module, state: MutableMapping[str, Any], prefix: str, *_: Any) -> None:
    _rename(state, prefix, {new: old for old, new in RENAMED.items()})


def _rename(state: MutableMapping[str, Any], prefix: str, table: dict[str, str]) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        for before, after in table.items():
            if before in name:
                state[name.replace(before, after)] = state.pop(name)
