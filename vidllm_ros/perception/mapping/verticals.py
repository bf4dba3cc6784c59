"""The upward direction from vertical edges: their images meet in one vanishing point, in all frames of a window.

A straight edge and the camera's centre span a plane; the planes of all vertical edges contain the vertical. So it is
found from the directions of the cameras alone, whatever the depth is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidllm_ros.perception.types import Frame, Reconstruction

_FRAMES = 8  # of a window that are looked at
_ROWS = 480  # larger images are reduced to so many
_SHORTEST = 20  # pixels; shorter segments point anywhere
_TOLERANCE = np.radians(1.5)  # between an edge's plane and the vertical
_SAMPLES = 2000  # pairs of edges that are tried as verticals
_REACH = np.radians(40.0)  # deviation of how far cameras are tilted and rolled: nearer directions are likelier
_SUPPORT = 0.06  # of the length of all segments; less is found in any picture
_LEAD = 1.7  # by which the best direction's support exceeds that of any other
_APART = np.radians(10.0)  # within which a direction is no other
_REFINEMENTS = 5


@dataclass(frozen=True, eq=False)
class Vertical:
    """What the edges say.

    Attributes:
        up: float64 [3] unit vector in the window frame.
        support: share of the length of all segments that are images of vertical edges.
    """

    up: np.ndarray
    support: float


def find_vertical(frames: Sequence[Frame], reconstruction: Reconstruction, max_tilt: float) -> Vertical | None:
    """The vertical, or None when no direction is supported clearly more than every other.

    Args:
        frames: the images, undistorted, as the reconstruction has them.
        reconstruction: for camera directions and intrinsics.
        max_tilt: largest angle to the cameras' mean upward axis, degrees.
    """
    rotations = reconstruction.T_window_camera[:, :3, :3]
    prior = -rotations[:, :, 1].mean(axis=0)  # y points down
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).astype(int))
    intrinsics = reconstruction.image_intrinsics
    found = [_edge_planes(frames[i].rgb, intrinsics[i]) for i in chosen]
    normals = np.concatenate([own @ rotations[i].T for i, (own, _) in zip(chosen, found, strict=True)])
    lengths = np.concatenate([own for _, own in found])
    if len(normals) < 2 or np.linalg.norm(prior) < 1e-3:
        return None
    prior /= np.linalg.norm(prior)
    candidates = _candidates(normals, prior, np.cos(np.radians(max_tilt)))
    if not len(candidates):
        return None
    support = _supports(candidates, normals, lengths)
    angles = np.arccos(np.clip(candidates @ prior, -1, 1))
    likelihood = support * np.exp(-0.5 * (angles / _REACH) ** 2)
    best = int(likelihood.argmax())
    others = likelihood[np.abs(candidates @ candidates[best]) < np.cos(_APART)]
    if support[best] < _SUPPORT or likelihood[best] < _LEAD * others.max(initial=0.0):
        return None
    # Cameras that are wrong leave a direction to one frame alone.
    shares = [
        _supports(candidates[best : best + 1], own @ rotations[i].T, length)[0]
        for i, (own, length) in zip(chosen, found, strict=True)
        if len(own)
    ]
    if np.mean(np.array(shares) >= _SUPPORT / 2) <= 0.5:
        return None
    return Vertical(_refined(candidates[best], normals, lengths), float(support[best]))


def _edge_planes(rgb: np.ndarray, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normals [N, 3], in the camera's frame, of the planes through its centre and its edges; their lengths in pixels.

    Segments are found by LSD (von Gioi et al., 2010).
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    ratio = min(1.0, _ROWS / grey.shape[0])
    if ratio < 1:
        grey = cv2.resize(grey, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    segments = cv2.createLineSegmentDetector().detect(grey)[0]
    if segments is None:
        return np.zeros((0, 3)), np.zeros(0)
    ends = segments.reshape(-1, 2, 2).astype(np.float64)
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    ends, lengths = ends[lengths >= _SHORTEST] / ratio, lengths[lengths >= _SHORTEST]
    rays = np.concatenate([ends, np.ones((len(ends), 2, 1))], axis=2) @ np.linalg.inv(intrinsics).T
    normals = np.cross(rays[:, 0], rays[:, 1])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True), lengths


def _candidates(normals: np.ndarray, prior: np.ndarray, least_cosine: float) -> np.ndarray:
    """Directions [C, 3] in which pairs of planes meet, those near enough to the prior; the same for the same planes."""
    first, second = np.random.default_rng(0).integers(0, len(normals), (2, _SAMPLES))
    directions = np.cross(normals[first], normals[second])
    sines = np.linalg.norm(directions, axis=1)
    directions = directions[sines > 0.05] / sines[sines > 0.05, None]
    cosines = directions @ prior
    return (np.sign(cosines)[:, None] * directions)[np.abs(cosines) >= least_cosine]


def _supports(directions: np.ndarray, normals: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """For each direction the share of all lengths that lies in planes which contain it, less the worse they do."""
    misses = np.abs(directions @ normals.T) / np.sin(_TOLERANCE)
    return np.clip(1 - misses, 0, None) @ lengths / lengths.sum()


def _refined(direction: np.ndarray, normals: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Least squares over the planes that contain the direction."""
    for _ in range(_REFINEMENTS):
        own = np.abs(normals @ direction) < np.sin(_TOLERANCE)
        axes = np.linalg.eigh((normals[own] * lengths[own, None]).T @ normals[own])[1]
        direction = axes[:, 0] * (1.0 if axes[:, 0] @ direction >= 0 else -1.0)
    return direction
