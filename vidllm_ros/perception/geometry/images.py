"""Between a camera's image and the network's: resize, crop, and the camera matrix on both sides."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor


def fit_image(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scales ``rgb`` uint8 [H, W, 3] until it covers ``size`` (height, width), then crops its centre to it."""
    scale, scaled, offset = _plan(rgb.shape[:2], size)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(rgb), (scaled[1], scaled[0]), interpolation=interpolation)
    return np.ascontiguousarray(resized[offset[0] : offset[0] + size[0], offset[1] : offset[1] + size[1]])


def image_to_network(image_size: tuple[int, int], network_size: tuple[int, int]) -> np.ndarray:
    """The pixel map of ``fit_image``: float64 [3, 3], homogeneous image pixels (u, v, 1) to network pixels.

    Pixels are counted from 0 at the centre of the first one. A camera matrix K of the image becomes
    ``image_to_network @ K`` at network resolution, and the inverse leads back.

    Args:
        image_size: (height, width).
        network_size: (height, width).
    """
    _, scaled, offset = _plan(image_size, network_size)
    matrix = np.eye(3)
    for axis, (before, after, cut) in enumerate(zip(image_size[::-1], scaled[::-1], offset[::-1], strict=True)):
        ratio = after / before
        matrix[axis, axis] = ratio
        matrix[axis, 2] = 0.5 * ratio - 0.5 - cut
    return matrix


def to_tensor(images: list[np.ndarray], device: torch.device) -> Tensor:
    """uint8 [H, W, 3] images to float32 [F, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255


def _plan(image_size: tuple[int, int], size: tuple[int, int]) -> tuple[float, tuple[int, int], tuple[int, int]]:
    """The scale, the size after scaling and the top-left corner of the crop, all (height, width)."""
    scale = max(size[0] / image_size[0], size[1] / image_size[1])
    scaled = (max(size[0], round(image_size[0] * scale)), max(size[1], round(image_size[1] * scale)))
    return scale, scaled, ((scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2)
