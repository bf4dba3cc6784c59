"""Differentiable overlap of upright boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def box_overlap(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and distance IoU (Zheng et al., 2020) of boxes along one pair of axes.

    DIoU is IoU - d^2 / c^2, with d the distance of the centres and c the diagonal of the smallest enclosing box. Both
    boxes are taken along the axes of the target, which is exact once their yaws agree; what the yaw still lacks is
    ``yaw_error``'s.

    Args:
        boxes: [..., 7] box vectors.
        targets: [..., 7], of a shape that broadcasts.

    Returns:
        IoU [...] between 0 and 1, and DIoU [...] between -1 and 1.
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
    iou = shared / union.clamp(min=1e-9)
    enclosing = torch.maximum(offset + half, target_half) - torch.minimum(offset - half, -target_half)
    return iou, iou - offset.square().sum(dim=-1) / enclosing.square().sum(dim=-1).clamp(min=1e-9)


def yaw_error(directions: Tensor, targets: Tensor) -> Tensor:
    """Squared error of a direction vector, quartered: 0 for equal directions, 1 for perpendicular ones of unit length.

    Unlike an error of the angle, it has no flat spot where the prediction points the opposite way.

    Args:
        directions: [..., 2] sine and cosine of twice the yaw, of any length.
        targets: [..., 7] box vectors, of a shape that broadcasts.

    Returns:
        [...]
    """
    twice = 2 * targets[..., 6]
    return (directions - torch.stack([twice.sin(), twice.cos()], dim=-1)).square().sum(dim=-1) / 4


def box_l1(boxes: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of centre and size in metres, [...]."""
    return (boxes[..., :6] - targets[..., :6]).abs().mean(dim=-1)


def quarter_turned(boxes: Tensor) -> Tensor:
    """The same boxes written with the yaw a quarter turn on and the two ground sizes swapped."""
    return torch.cat([boxes[..., [0, 1, 2, 4, 3, 5]], boxes[..., 6:] + math.pi / 2], dim=-1)


def long_side_first(boxes: Tensor) -> Tensor:
    """The same boxes written so that dx >= dy."""
    return torch.where(boxes[..., 3:4] >= boxes[..., 4:5], boxes, quarter_turned(boxes))
