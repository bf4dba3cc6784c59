"""What VGGT computes, in float64 NumPy, from a state dict in VGGT's own names.

Written from the description of the network; it shares no code with the package.
"""

import numpy as np
from float64_layers import (
    Weights,
    antialiased_bicubic,
    attend,
    convolution,
    enlarge,
    heads_of,
    inside,
    layer_norm,
    linear,
    mlp,
    resize,
    sigmoid,
    standardize,
)
from vggt_layout import Sizes

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def block(w: Weights, x: np.ndarray, heads: int, eps: float, positions: np.ndarray | None = None) -> np.ndarray:
    """Pre-norm transformer block; with positions also query/key norm and rotation."""
    qkv = linear(w, "attn.qkv", layer_norm(w, "norm1", x, eps))
    q, k, v = (heads_of(part, heads) for part in np.split(qkv, 3, axis=-1))
    if positions is not None:
        q = rotate(layer_norm(w, "attn.q_norm", q, eps), positions)
        k = rotate(layer_norm(w, "attn.k_norm", k, eps), positions)
    x = x + w["ls1.gamma"] * linear(w, "attn.proj", attend(q, k, v))
    return x + w["ls2.gamma"] * mlp(w, "mlp", layer_norm(w, "norm2", x, eps))


def rotate(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rows turn the first half of a head, columns the second; base 100, channel pairs half a half apart."""
    halves = []
    for half, axis in zip(np.split(x, 2, axis=-1), (0, 1), strict=True):
        count = half.shape[-1] // 2
        angle = positions[:, axis, None] / 100.0 ** (np.arange(count) / count)
        a, b = half[..., :count], half[..., count:]
        halves += [a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)]
    return np.concatenate(halves, axis=-1)


def encoder(w: Weights, images: np.ndarray, s: Sizes, eps: float = 1e-6) -> np.ndarray:
    """Final-normed patch tokens [F, N, C] of frames [F, 3, H, W] in [0, 1]."""
    count, _, height, width = images.shape
    rows, columns = height // s.patch, width // s.patch
    pixels = (images - MEAN[:, None, None]) / STD[:, None, None]
    pixels = pixels.reshape(count, 3, rows, s.patch, columns, s.patch)
    patches = np.einsum("fcrinj,dcij->frnd", pixels, w["patch_embed.proj.weight"]) + w["patch_embed.proj.bias"]
    table = w["pos_embed"][0, 1:].reshape(s.grid, s.grid, -1)
    if (rows, columns) != (s.grid, s.grid):
        table = np.einsum(
            "ri,cj,ijd->rcd", antialiased_bicubic(rows, s.grid), antialiased_bicubic(columns, s.grid), table
        )
    patches = (patches + table).reshape(count, rows * columns, -1)
    first = w["cls_token"][0] + w["pos_embed"][0, :1]
    special = np.concatenate([first, w["register_tokens"][0]])
    x = np.concatenate([np.broadcast_to(special, (count, *special.shape)), patches], axis=1)
    for i in range(s.encoder_layers):
        x = block(inside(w, f"blocks.{i}"), x, s.encoder_heads, eps)
    return layer_norm(w, "norm", x, eps)[:, len(special) :]


def aggregator(w: Weights, tokens: np.ndarray, grid: tuple[int, int], s: Sizes, eps: float = 1e-5) -> list[np.ndarray]:
    """[S, 1 + R + N, 2C] of every pair, from one window's patch tokens [S, N, C]."""
    frames, _, dim = tokens.shape
    slot = np.where(np.arange(frames) == 0, 0, 1)
    x = np.concatenate([w["camera_token"][0, slot], w["register_token"][0, slot], tokens], axis=1)
    special = [(0, 0)] * (1 + s.registers)
    positions = np.array(special + [(row + 1, column + 1) for row in range(grid[0]) for column in range(grid[1])])
    outputs = []
    for i in range(s.pairs):
        in_frame = block(inside(w, f"frame_blocks.{i}"), x, s.heads, eps, positions)
        everywhere = in_frame.reshape(1, -1, dim)
        x = block(inside(w, f"global_blocks.{i}"), everywhere, s.heads, eps, np.tile(positions, (frames, 1)))
        x = x.reshape(in_frame.shape)
        outputs.append(np.concatenate([in_frame, x], axis=-1))
    return outputs


def camera_encodings(
    w: Weights, tokens: np.ndarray, s: Sizes, eps: float = 1e-5, adaptive_eps: float = 1e-6
) -> list[np.ndarray]:
    """[S, 9] after each of four refinements, from camera tokens [S, 2C]."""
    tokens = layer_norm(w, "token_norm", tokens, eps)
    total, reported = None, []
    for _ in range(4):
        previous = np.broadcast_to(w["empty_pose_tokens"][0], (len(tokens), 9)) if total is None else total
        embedded = linear(w, "embed_pose", previous)
        shift, scale, gate = np.split(linear(w, "poseLN_modulation.1", embedded * sigmoid(embedded)), 3, axis=-1)
        x = gate * (standardize(tokens, adaptive_eps) * (1 + scale) + shift) + tokens
        for i in range(s.camera_blocks):
            x = block(inside(w, f"trunk.{i}"), x[None], s.heads, eps)[0]
        correction = mlp(w, "pose_branch", layer_norm(w, "trunk_norm", x, eps))
        total = correction if total is None else total + correction
        reported.append(np.concatenate([total[:, :7], np.maximum(total[:, 7:], 0)], axis=-1))
    return reported


def with_position(x: np.ndarray, aspect: float) -> np.ndarray:
    """Adds a tenth of the sines and cosines of x, then of y, in units of half the image's diagonal."""
    channels, height, width = x.shape[1:]
    diagonal, quarter = np.hypot(aspect, 1), channels // 4
    waves = []
    for count, span, axis in ((width, aspect / diagonal, 1), (height, 1 / diagonal, 0)):
        at = (2 * np.arange(count) + 1 - count) / count * span
        angle = at[:, None] / 100.0 ** (np.arange(quarter) / quarter)
        wave = np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).T
        waves.append(np.broadcast_to(np.expand_dims(wave, 2 - axis), (2 * quarter, height, width)))
    return x + 0.1 * np.concatenate(waves)


def residual(w: Weights, x: np.ndarray) -> np.ndarray:
    """The first rectification happens in place, so the skip carries the rectified map."""
    x = np.maximum(x, 0)
    return x + convolution(w, "conv2", np.maximum(convolution(w, "conv1", x), 0))


def depth_and_confidence(
    w: Weights, layers: list[np.ndarray], image_size: tuple[int, int], s: Sizes, eps: float = 1e-5
) -> tuple[np.ndarray, np.ndarray]:
    """Each [S, H, W], from four layers of patch tokens [S, N, 2C]."""
    grid, aspect = (image_size[0] // s.patch, image_size[1] // s.patch), image_size[1] / image_size[0]
    levels = []
    for i, tokens in enumerate(layers):
        x = np.swapaxes(layer_norm(w, "norm", tokens, eps), 1, 2).reshape(len(tokens), -1, *grid)
        x = with_position(convolution(w, f"projects.{i}", x), aspect)
        if i < 2:
            x = enlarge(w, f"resize_layers.{i}", x)
        elif i == 3:
            x = convolution(w, "resize_layers.3", x, stride=2)
        levels.append(convolution(w, f"scratch.layer{i + 1}_rn", x))
    x = np.zeros(1)
    for i in (3, 2, 1, 0):
        stage = inside(w, f"scratch.refinenet{i + 1}")
        x = levels[3] if i == 3 else x + residual(inside(stage, "resConfUnit1"), levels[i])
        size = levels[i - 1].shape[2:] if i else (2 * x.shape[2], 2 * x.shape[3])
        x = convolution(stage, "out_conv", resize(residual(inside(stage, "resConfUnit2"), x), size))
    x = resize(convolution(w, "scratch.output_conv1", x), image_size)
    x = np.maximum(convolution(w, "scratch.output_conv2.0", with_position(x, aspect)), 0)
    out = convolution(w, "scratch.output_conv2.2", x)
    return np.exp(out[:, 0]), 1 + np.exp(out[:, 1])


def vggt(w: Weights, images: np.ndarray, s: Sizes) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Pose encodings [S, 9] of every refinement, relative depth and confidence [S, H, W] of one window [S, 3, H, W]."""
    size = (images.shape[2], images.shape[3])
    grid = (size[0] // s.patch, size[1] // s.patch)
    a = inside(w, "aggregator")
    outputs = aggregator(a, encoder(inside(a, "patch_embed"), images, s), grid, s)
    patches = [outputs[layer][:, 1 + s.registers :] for layer in s.head_layers]
    encodings = camera_encodings(inside(w, "camera_head"), outputs[-1][:, 0], s)
    return encodings, *depth_and_confidence(inside(w, "depth_head"), patches, size, s)
