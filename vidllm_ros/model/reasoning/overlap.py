"""Intersection over union of boxes, axis-aligned and turned about z: the one implementation.

The IoU here is the true quotient in float64. Several reference evaluators add an epsilon to the union or work in
float32, so that a pair of exactly 0.25 or 0.5 fails their ``>=``; pass their ``epsilon`` and ``dtype`` to reproduce it.
"""

from __future__ import annotations

import numpy as np


def box_iou(a: np.ndarray, b: np.ndarray, epsilon: float = 0.0, dtype: type = np.float64) -> np.ndarray:
    """Intersection over union of axis-aligned boxes.

    Args:
        a: [N, 6] centre and full size, metres.
        b: [M, 6].
        epsilon: added to the union (1e-8 in ScanRefer's evaluator).
        dtype: of every step of the computation (float32 in M3DRef-CLIP's evaluator).

    Returns:
        ``dtype`` [N, M]; 0 where both boxes have no volume.
    """
    a, b = a.astype(dtype), b.astype(dtype)
    low = np.maximum((a[:, :3] - a[:, 3:] / 2)[:, None], (b[:, :3] - b[:, 3:] / 2)[None])
    high = np.minimum((a[:, :3] + a[:, 3:] / 2)[:, None], (b[:, :3] + b[:, 3:] / 2)[None])
    common = np.prod(np.clip(high - low, 0.0, None), axis=2)
    return _quotient(common, a, b, epsilon)


def oriented_box_iou(a: np.ndarray, b: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """Exact intersection over union of boxes that are turned about z, by clipping their footprints.

    Args:
        a: [N, 7] centre, full size (metres) and yaw (radians, x towards y).
        b: [M, 7].
        epsilon: added to the union.

    Returns:
        float64 [N, M].
    """
    low = np.maximum((a[:, 2] - a[:, 5] / 2)[:, None], (b[:, 2] - b[:, 5] / 2)[None])
    high = np.minimum((a[:, 2] + a[:, 5] / 2)[:, None], (b[:, 2] + b[:, 5] / 2)[None])
    height = np.clip(high - low, 0.0, None)
    reach = np.hypot(a[:, 3], a[:, 4])[:, None] / 2 + np.hypot(b[:, 3], b[:, 4])[None] / 2
    near = np.linalg.norm(a[:, None, :2] - b[None, :, :2], axis=2) <= reach
    common = np.zeros_like(height)
    for i, j in zip(*np.nonzero(near & (height > 0)), strict=True):
        common[i, j] = _common_area(a[i], b[j]) * height[i, j]
    return _quotient(common, a, b, epsilon)


def _common_area(a: np.ndarray, b: np.ndarray) -> float:
    """Area two footprints share: Sutherland-Hodgman, the rectangle of ``a`` cut by the four sides of ``b``."""
    cos, sin = np.cos(a[6] - b[6]), np.sin(a[6] - b[6])
    dx, dy = a[0] - b[0], a[1] - b[1]
    x0, y0 = dx * np.cos(b[6]) + dy * np.sin(b[6]), dy * np.cos(b[6]) - dx * np.sin(b[6])
    half_x, half_y = a[3] / 2, a[4] / 2
    corners = ((-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y))
    polygon = [(float(x0 + cos * x - sin * y), float(y0 + sin * x + cos * y)) for x, y in corners]
    for axis, limit in ((0, b[3] / 2), (1, b[4] / 2)):
        for sign in (1.0, -1.0):
            polygon = _cut(polygon, axis, sign, float(limit))
    twice = sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True))
    return max(twice / 2, 0.0)


def _cut(polygon: list[tuple[float, float]], axis: int, sign: float, limit: float) -> list[tuple[float, float]]:
    """The part of a polygon where ``sign * coordinate <= limit``."""
    kept = []
    for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        over_p, over_q = sign * p[axis] - limit, sign * q[axis] - limit
        if over_p <= 0:
            kept.append(p)
        if (over_p < 0 < over_q) or (over_q < 0 < over_p):
            t = over_p / (over_p - over_q)
            crossing = [p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])]
            crossing[axis] = sign * limit
            kept.append((crossing[0], crossing[1]))
    return kept


def _quotient(common: np.ndarray, a: np.ndarray, b: np.ndarray, epsilon: float) -> np.ndarray:
    union = a[:, 3:6].prod(axis=1)[:, None] + b[:, 3:6].prod(axis=1)[None] - common
    union = union + union.dtype.type(epsilon)
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
