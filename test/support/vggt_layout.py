"""The names and shapes of VGGT's tensors at any size, and networks of random weights in that layout."""

import json
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network in VGGT's layout; as they stand, a miniature with a different number for everything."""

    dim: int = 32
    encoder_layers: int = 3
    encoder_heads: int = 2
    encoder_registers: int = 3
    patch: int = 14
    grid: int = 4
    pairs: int = 5
    registers: int = 2
    head_dim: int = 8
    mlp_ratio: int = 2
    camera_blocks: int = 2
    features: int = 8
    channels: tuple[int, int, int, int] = (8, 12, 16, 4)
    head_features: int = 6

    @property
    def heads(self) -> int:
        return self.dim // self.head_dim

    @property
    def head_layers(self) -> tuple[int, ...]:
        """VGGT reads pairs 4, 11, 17 and 23 of 24; others at the same relative depth."""
        return tuple(-(-(layer + 1) * self.pairs // 24) - 1 for layer in (4, 11, 17, 23))


VGGT_1B = Sizes(
    dim=1024, encoder_layers=24, encoder_heads=16, encoder_registers=4, grid=37, pairs=24, registers=4, head_dim=64,
    mlp_ratio=4, camera_blocks=4, features=256, channels=(256, 512, 1024, 1024), head_features=32,
)  # fmt: skip


def published_names() -> dict[str, Shape]:
    """All 1,797 names of VGGT-1B with their shapes; ``{0-23}`` in the file stands for 24 names."""
    names: dict[str, Shape] = {}
    for pattern, shape in json.loads((Path(__file__).parent / "vggt_1b_keys.json").read_text()).items():
        found = re.search(r"\{(\d+)-(\d+)\}", pattern)
        numbers = range(int(found[1]), int(found[2]) + 1) if found else [""]
        for number in numbers:
            names[re.sub(r"\{.*\}", str(number), pattern)] = tuple(shape)
    return names


def affine(name: str, *weight: int) -> dict[str, Shape]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def block(name: str, dim: int, hidden: int, head_dim: int | None = None) -> dict[str, Shape]:
    shapes = affine(f"{name}.norm1", dim) | affine(f"{name}.norm2", dim)
    shapes |= affine(f"{name}.attn.qkv", 3 * dim, dim) | affine(f"{name}.attn.proj", dim, dim)
    if head_dim is not None:
        shapes |= affine(f"{name}.attn.q_norm", head_dim) | affine(f"{name}.attn.k_norm", head_dim)
    shapes |= affine(f"{name}.mlp.fc1", hidden, dim) | affine(f"{name}.mlp.fc2", dim, hidden)
    return shapes | {f"{name}.ls1.gamma": (dim,), f"{name}.ls2.gamma": (dim,)}


def encoder_shapes(s: Sizes, prefix: str = "") -> dict[str, Shape]:
    """DINOv2 with registers in the layout of its authors."""
    shapes: dict[str, Shape] = {
        f"{prefix}cls_token": (1, 1, s.dim),
        f"{prefix}pos_embed": (1, 1 + s.grid**2, s.dim),
        f"{prefix}register_tokens": (1, s.encoder_registers, s.dim),
        f"{prefix}mask_token": (1, s.dim),
    }
    shapes |= affine(f"{prefix}patch_embed.proj", s.dim, 3, s.patch, s.patch) | affine(f"{prefix}norm", s.dim)
    for i in range(s.encoder_layers):
        shapes |= block(f"{prefix}blocks.{i}", s.dim, s.mlp_ratio * s.dim)
    return shapes


def camera_shapes(s: Sizes) -> dict[str, Shape]:
    name, width = "camera_head", 2 * s.dim
    shapes: dict[str, Shape] = {f"{name}.empty_pose_tokens": (1, 1, 9)}
    for i in range(s.camera_blocks):
        shapes |= block(f"{name}.trunk.{i}", width, s.mlp_ratio * width)
    shapes |= affine(f"{name}.token_norm", width) | affine(f"{name}.trunk_norm", width)
    shapes |= affine(f"{name}.embed_pose", width, 9) | affine(f"{name}.poseLN_modulation.1", 3 * width, width)
    return shapes | affine(f"{name}.pose_branch.fc1", s.dim, width) | affine(f"{name}.pose_branch.fc2", 9, s.dim)


def dense_shapes(s: Sizes, name: str, outputs: int) -> dict[str, Shape]:
    """A DPT head."""
    c, f = s.channels, s.features
    shapes = affine(f"{name}.norm", 2 * s.dim)
    for i in range(4):
        shapes |= affine(f"{name}.projects.{i}", c[i], 2 * s.dim, 1, 1)
        shapes |= {f"{name}.scratch.layer{i + 1}_rn.weight": (f, c[i], 3, 3)}
    shapes |= affine(f"{name}.resize_layers.0", c[0], c[0], 4, 4) | affine(f"{name}.resize_layers.1", c[1], c[1], 2, 2)
    shapes |= affine(f"{name}.resize_layers.3", c[3], c[3], 3, 3)
    for i in range(1, 5):
        stage = f"{name}.scratch.refinenet{i}"
        shapes |= affine(f"{stage}.out_conv", f, f, 1, 1)
        for unit in (1, 2) if i < 4 else (2,):
            for convolution in (1, 2):
                shapes |= affine(f"{stage}.resConfUnit{unit}.conv{convolution}", f, f, 3, 3)
    shapes |= affine(f"{name}.scratch.output_conv1", f // 2, f, 3, 3)
    shapes |= affine(f"{name}.scratch.output_conv2.0", s.head_features, f // 2, 3, 3)
    return shapes | affine(f"{name}.scratch.output_conv2.2", outputs, s.head_features, 1, 1)


def vggt_shapes(s: Sizes) -> dict[str, Shape]:
    """Everything but the track head."""
    shapes: dict[str, Shape] = {
        "aggregator.camera_token": (1, 2, 1, s.dim),
        "aggregator.register_token": (1, 2, s.registers, s.dim),
    }
    shapes |= encoder_shapes(s, "aggregator.patch_embed.")
    for kind in ("frame", "global"):
        for i in range(s.pairs):
            shapes |= block(f"aggregator.{kind}_blocks.{i}", s.dim, s.mlp_ratio * s.dim, s.head_dim)
    return shapes | camera_shapes(s) | dense_shapes(s, "point_head", 4) | dense_shapes(s, "depth_head", 2)


def random_tensors(shapes: dict[str, Shape], seed: int = 0) -> dict[str, torch.Tensor]:
    """Float32 values that keep signals of ordinary size; no zero or identity that would hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = 0.3 * torch.randn(shape, generator=generator)
        if len(shape) >= 2 and name.endswith("weight"):
            noise *= 2 / np.sqrt(prod(shape[1:]))
        is_gain = "norm" in name and name.endswith("weight")
        tensors[name] = 1 + noise if is_gain else noise
    return tensors


def miniature_vggt(sizes: Sizes = Sizes(), seed: int = 0) -> dict[str, torch.Tensor]:
    """A whole checkpoint with random weights, a piece of the track head included."""
    shapes = vggt_shapes(sizes) | {"track_head.tracker.virual_tracks": (1, 8, 1, 4)}
    return random_tensors(shapes, seed)
