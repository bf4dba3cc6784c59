"""The motion between two frames from all of their pixels, where too few points can be followed.

Both images and both depths should agree once one frame is seen from the other (direct RGB-D alignment; Kerl, Sturm and
Cremers, "Robust Odometry Estimation for RGB-D Cameras", ICRA 2013). On a bare cabinet on a bare floor there are hardly
any corners, but edges and surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidllm_ros.perception.adjustment.normal_equations import exponential

_HALVINGS = 2  # of the network's resolution, at first
_STEPS = (12, 10, 8)  # at most, from the coarsest image to the finest
_GRAY_ERROR = 15.0  # gray levels: what light and reflections change
_MIN_DEPTH_ERROR = 0.01  # relative, of surfaces
_KERNEL = 2.0  # standard deviations (Geman and McClure)
_MIN_SEEN = 0.3  # share of the pixels that the other frame must see
_MIN_ALIKE = 0.55  # share of those that must agree
_TOGETHER = 60.0  # neighbouring pixels err alike: so many count as one
_SMALL = 1e-4  # of a step, metres and radians, after which nothing more changes


@dataclass(frozen=True, eq=False)
class Level:
    """A frame at one resolution: gray float32 [h, w], log depth float32 [h, w] (NaN: none), camera matrix [3, 3]."""

    gray: np.ndarray
    log_depth: np.ndarray
    intrinsics: np.ndarray


@dataclass(frozen=True, eq=False)
class Motion:
    """How a frame lies to another one.

    Attributes:
        T_target_source: float64 [4, 4].
        information: float64 [6, 6] on (rotation, translation) of a step ``exp(step) @ T_target_source``.
        alike: share of the pixels that agree.
    """

    T_target_source: np.ndarray
    information: np.ndarray
    alike: float


def levels(rgb: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray) -> list[Level]:
    """A frame from the coarsest resolution to the finest.

    Args:
        rgb: uint8 [H, W, 3].
        depth: [H, W] metres, 0 where unknown.
        intrinsics: float64 [3, 3].
    """
    gray = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32), (3, 3), 0)
    log_depth = np.where(depth > 0, np.log(np.maximum(depth, 1e-6)), np.nan).astype(np.float32)
    result = [Level(gray, log_depth, intrinsics)]
    for _ in range(_HALVINGS):
        gray = cv2.pyrDown(result[0].gray)
        # Pixel (0, 0) of the half is pixel (0, 0) of the whole: ``pyrDown`` keeps every other one.
        half = np.diag([0.5, 0.5, 1.0]) @ result[0].intrinsics
        result.insert(0, Level(gray, np.ascontiguousarray(result[0].log_depth[::2, ::2]), half))
    return result


def align(source: list[Level], target: list[Level], start: np.ndarray, depth_error: float) -> Motion | None:
    """The motion that lays two frames over each other; None when they do not fit.

    Args:
        source: from ``levels``.
        target: the other frame.
        start: T_target_source [4, 4].
        depth_error: relative deviation of depth.
    """
    pose = start
    system = None
    for own, other, steps in zip(source, target, _STEPS, strict=True):
        points, gray = _points(own)
        if len(points) < 50:
            return None
        fields = _fields(other)
        for _ in range(steps):
            system = _system(points, gray, fields, other.intrinsics, pose, max(depth_error, _MIN_DEPTH_ERROR))
            if system is None:
                return None
            try:
                step = -np.linalg.solve(system.matrix + 1e-3 * np.diag(np.diag(system.matrix)), system.vector)
            except np.linalg.LinAlgError:
                return None
            pose = exponential(step[None])[0] @ pose
            if np.abs(step).max() < _SMALL:
                break
    if system is None or system.seen < _MIN_SEEN or system.alike < _MIN_ALIKE:
        return None
    return Motion(pose, system.matrix / _TOGETHER, system.alike)


@dataclass(frozen=True, eq=False)
class _System:
    matrix: np.ndarray
    vector: np.ndarray
    seen: float
    alike: float


def _points(level: Level) -> tuple[np.ndarray, np.ndarray]:
    """Points float64 [N, 3] metres of the pixels that have a depth, and their gray [N]."""
    v, u = np.nonzero(np.isfinite(level.log_depth))
    if len(v) > 5000:
        v, u = v[::2], u[::2]
    z = np.exp(level.log_depth[v, u].astype(np.float64))
    matrix = level.intrinsics
    points = np.stack([(u - matrix[0, 2]) / matrix[0, 0] * z, (v - matrix[1, 2]) / matrix[1, 1] * z, z], axis=1)
    return points, level.gray[v, u].astype(np.float64)


def _fields(level: Level) -> np.ndarray:
    """Gray and log depth with their slopes along u and v, float32 [h, w, 6]; a slope over an edge of depth is NaN."""
    gray, deep = level.gray, level.log_depth
    slopes = []
    for image in (gray, deep):
        slope_u, slope_v = np.full_like(image, np.nan), np.full_like(image, np.nan)
        slope_u[:, 1:-1] = (image[:, 2:] - image[:, :-2]) / 2
        slope_v[1:-1] = (image[2:] - image[:-2]) / 2
        slopes += [slope_u, slope_v]
    edge = np.maximum(np.abs(slopes[2]), np.abs(slopes[3])) > 0.05
    for slope in slopes[2:]:
        slope[edge] = np.nan
    return np.stack([gray, slopes[0], slopes[1], deep, slopes[2], slopes[3]], axis=2)


def _system(
    points: np.ndarray, gray: np.ndarray, fields: np.ndarray, matrix: np.ndarray, pose: np.ndarray, depth_error: float
) -> _System | None:
    """The normal equations of a step of the motion."""
    moved = points @ pose[:3, :3].T + pose[:3, 3]
    x, y, z = moved.T
    front = z > 0.05
    over_z = 1 / np.maximum(z, 0.05)
    u = matrix[0, 0] * x * over_z + matrix[0, 2]
    v = matrix[1, 1] * y * over_z + matrix[1, 2]
    inside = front & (u >= 1) & (v >= 1) & (u < fields.shape[1] - 2) & (v < fields.shape[0] - 2)
    if inside.sum() < 50:
        return None
    x, y, z, over_z = x[inside], y[inside], z[inside], over_z[inside]
    sampled = _sample(fields, u[inside], v[inside])
    zero = np.zeros_like(x)
    a, b = x * over_z, y * over_z
    by_u = matrix[0, 0] * np.stack([-a * b, 1 + a * a, -b, over_z, zero, -a * over_z])
    by_v = matrix[1, 1] * np.stack([-1 - b * b, a * b, a, zero, over_z, -b * over_z])
    by_log_z = np.stack([b, -a, zero, zero, zero, over_z])

    bright = sampled[:, 0] - gray[inside]
    known = np.isfinite(sampled[:, 1:3]).all(axis=1)
    bright = bright - np.median(bright[known]) if known.any() else bright
    deeper = sampled[:, 3] - np.log(z)
    total = np.zeros((6, 6))
    vector = np.zeros(6)
    alike, counted = 0, 0
    for error, deviation, slope_u, slope_v, less in (
        (bright, _GRAY_ERROR, sampled[:, 1], sampled[:, 2], 0.0),
        (deeper, depth_error, sampled[:, 4], sampled[:, 5], 1.0),
    ):
        usable = np.isfinite(error) & np.isfinite(slope_u) & np.isfinite(slope_v)
        if not usable.any():
            continue
        jacobian = (slope_u * by_u + slope_v * by_v - less * by_log_z)[:, usable] / deviation
        scaled = error[usable] / deviation
        weight = 1 / (1 + scaled**2 / _KERNEL**2) ** 2
        total += (jacobian * weight) @ jacobian.T
        vector += (jacobian * weight) @ scaled
        alike += int((np.abs(scaled) < 3).sum())
        counted += int(usable.sum())
    if not counted or not np.isfinite(total).all():
        return None
    return _System(total, vector, inside.mean(), alike / counted)


def _sample(fields: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values [N, 6] between the pixels, bilinear."""
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    right, low = (u - left)[:, None], (v - top)[:, None]
    upper = fields[top, left] * (1 - right) + fields[top, left + 1] * right
    lower = fields[top + 1, left] * (1 - right) + fields[top + 1, left + 1] * right
    return upper * (1 - low) + lower * low
