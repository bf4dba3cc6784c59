"""Points of the scene as variables beside the frames', eliminated before each step (Schur complement)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.perception.adjustment.normal_equations import VARIABLES, NormalEquations
from vidllm_ros.perception.adjustment.sightings import FITS, MIN_DEPTH, PIXEL_ERROR, Sightings
from vidllm_ros.perception.geometry.transforms import invert

DEPTH_ERROR = 0.03  # relative, of a point; the same in all frames that see it, because their depths err alike
_POINT_ERROR = 30.0  # metres that a step may move a point which nothing else holds


class PointTerms:
    """Where frames see points, and how deep; each point lies still, and is a variable.

    Args:
        sightings: at least one.
        T_camera_window: float64 [S, 4, 4], the poses from which the points start.
    """

    def __init__(self, sightings: Sightings, T_camera_window: np.ndarray) -> None:
        self._sightings = sightings
        self._starts = sightings.starts()
        self._points = _back_projected(T_camera_window, sightings)
        self._of_frame = (np.arange(len(T_camera_window))[:, None] == sightings.frame).astype(float)

    def add(self, equations: NormalEquations, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> float:
        """Adds the sightings' errors, least over all places of the points; the share of the sightings that fits."""
        terms = _linearise(poses, log_scales, self._points, self._sightings, kernel)
        by_frame, by_point, frames, count = terms.by_frame, terms.by_point, len(poses), len(self._points)
        own = np.add.reduceat(np.einsum("kim,kjm->mij", by_point, by_point), self._starts)
        gradient = np.add.reduceat(np.einsum("kim,km->mi", by_point, terms.errors), self._starts)
        cross = np.zeros((count, 3, frames, VARIABLES))
        cross[self._sightings.point, :, self._sightings.frame] = np.einsum("kim,kjm->mij", by_point, by_frame)

        # own = root root^T; what is multiplied by root^-1 on both sides of a product has own^-1 between them.
        self._unroot = np.linalg.inv(np.linalg.cholesky(own + np.eye(3) / _POINT_ERROR**2))
        self._cross = (self._unroot @ cross.reshape(count, 3, -1)).reshape(-1, frames * VARIABLES)
        self._gradient = (self._unroot @ gradient[:, :, None]).ravel()

        everyone = np.arange(frames)
        squares = np.einsum("kim,kjm->mij", by_frame, by_frame).reshape(len(self._sightings.frame), -1)
        equations.matrix[everyone, :, everyone] += (self._of_frame @ squares).reshape(-1, VARIABLES, VARIABLES)
        equations.matrix -= (self._cross.T @ self._cross).reshape(equations.matrix.shape)
        equations.vector += self._of_frame @ np.einsum("kim,km->mi", by_frame, terms.errors)
        equations.vector -= (self._cross.T @ self._gradient).reshape(equations.vector.shape)
        return terms.fitting

    def move(self, step: np.ndarray) -> None:
        """Takes the points to where they fit best when the frames go by ``step`` [S, 7]."""
        rest = self._gradient + self._cross @ step.ravel()
        self._points = self._points - np.einsum("pji,pj->pi", self._unroot, rest.reshape(-1, 3))


def _back_projected(T_camera_window: np.ndarray, sightings: Sightings) -> np.ndarray:
    """Where the depths put each point, [P, 3]: the mean of its sightings."""
    T_window_camera = invert(T_camera_window)[sightings.frame]
    own = sightings.rays * sightings.depth[:, None]
    placed = np.einsum("mij,mj->mi", T_window_camera[:, :3, :3], own) + T_window_camera[:, :3, 3]
    starts = sightings.starts()
    counts = np.diff([*starts, len(placed)])
    return np.add.reduceat(placed, starts) / counts[:, None]


@dataclass(frozen=True, eq=False)
class _Terms:
    """Errors of M sightings in standard deviations and their derivatives, robust weights applied.

    Three for each: of the two coordinates at which the point is seen, and of the logarithm of its depth. The sightings
    come last, so that everything is done on long rows of memory.

    Attributes:
        errors: [3, M].
        by_frame: [3, 7, M], when the pose becomes ``exp(step) @ pose``.
        by_point: [3, 3, M], by the point in the window frame.
        fitting: share of the sightings that agree.
    """

    errors: np.ndarray
    by_frame: np.ndarray
    by_point: np.ndarray
    fitting: float


def _linearise(
    poses: np.ndarray, log_scales: np.ndarray, points: np.ndarray, sightings: Sightings, kernel: float
) -> _Terms:
    frame, point = sightings.frame, sightings.point
    rotation = np.ascontiguousarray(poses[frame, :3, :3].transpose(1, 2, 0))
    x, y, z = np.einsum("ijm,mj->im", rotation, points[point]) + poses[frame, :3, 3].T
    in_front = z > MIN_DEPTH
    z = np.maximum(z, MIN_DEPTH)
    over_z = 1 / z
    x, y = x * over_z, y * over_z
    zero, one = np.zeros_like(x), np.ones_like(x)
    by_frame = np.array(
        [
            (-x * y, 1 + x * x, -y, over_z, zero, -x * over_z, zero),
            (-1 - y * y, x * y, x, zero, over_z, -y * over_z, zero),
            (y, -x, zero, zero, zero, over_z, -one),
        ]
    )
    by_point = np.einsum("kim,ijm->kjm", by_frame[:, 3:6], rotation)
    off = np.stack([x, y]) - sightings.rays[:, :2].T
    deeper = np.log(z / sightings.depth) - log_scales[frame]

    # Geman-McClure: what does not fit loses its say altogether.
    squared = (off**2).sum(axis=0) / PIXEL_ERROR**2
    seen = in_front / (1 + squared / kernel**2) / PIXEL_ERROR
    counts = np.bincount(point)[point]
    depth_error = DEPTH_ERROR * np.sqrt(counts)
    known = 1 / (1 + (deeper / (FITS * DEPTH_ERROR)) ** 2) / depth_error
    weights = np.stack([seen, seen, known])
    errors = np.concatenate([off, deeper[None]]) * weights
    fitting = float(np.mean(squared < FITS**2))
    return _Terms(errors, by_frame * weights[:, None], by_point * weights[:, None], fitting)
