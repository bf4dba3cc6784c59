"""Differentiable overlap of upright boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def box_diou(boxes: Tensor, targets: Tensor) -> Tensor:
    """Distance IoU (Zheng et al., 2020) of boxes along one pair of axes: IoU - d^2 / c^2.

    d is the distance of the centres, c the diagonal of the smallest enclosing box. Both boxes are taken along the axes
    of the target, which is exact once their yaws agree; what the yaw still lacks is ``yaw_error``'s.

    Args:
        boxes: [..., 7] box vectors.
        targets: [..., 7], of a shape that broadcasts.

    Returns:
        [...], between -1 and 1.
    """
    offset = boxes[..., :3] - targets[..., :3]
    cosine, sine = targets[..., 6].cos(), targets[..., 6].sin()
    x = offset[..., 0] * cosine + offset[..., 1] * sine
    y = offset[..., 1] * cosine - offset[..., 0] * sine
    offset = torch.stack([x, y, offset[..., 2]], dim=-1)
    half, target_half = boxes[..., 3:6] / 2, targets[..., 3:6] / 2
    high = torch.minimum(offset + half, target_half)
    low = torch.maximum(offset - half, -target_half)
    shared = (high - low).clamp(min=0).prod(dim=-1)
    union = boxes[..., 3:6].prod(dim=-1) + targets[..., 3:6].prod(dim=-1) - shared
    enclosing = torch.maximum(offset + half, target_half) - torch.minimum(offset - half, -target_half)
    distance = offset.square().sum(dim=-1) / enclosing.square().sum(dim=-1).clamp(min=1e-9)
    return shared / union.clamp(min=1e-9) - distance


def yaw_error(boxes: Tensor, targets: Tensor) -> Tensor:
    """(1 - cos 2 (yaw - yaw*)) / 2, [...]: 0 for equal directions, 1 for perpendicular ones."""
    return (1 - torch.cos(2 * (boxes[..., 6] - targets[..., 6]))) / 2


def box_l1(boxes: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of centre and size in metres, [...]."""
    return (boxes[..., :6] - targets[..., :6]).abs().mean(dim=-1)


def quarter_turned(boxes: Tensor) -> Tensor:
    """The same boxes written with the yaw a quarter turn on and the two ground sizes swapped."""
    return torch.cat([boxes[..., [0, 1, 2, 4, 3, 5]], boxes[..., 6:] + math.pi / 2], dim=-1)
