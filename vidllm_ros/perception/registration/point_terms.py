"""Points of the scene as variables beside the frames', eliminated before each step (Schur complement)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.perception.adjustment.normal_equations import VARIABLES, NormalEquations
from vidllm_ros.perception.geometry.transforms import invert
from vidllm_ros.perception.registration.sightings import FITS, MIN_DEPTH, Sightings

_POINT_ERROR = 30.0  # metres that a step may move a point which nothing else holds


class PointTerms:
    """Where frames see points, and how deep; each point lies still, and is a variable.

    Args:
        sightings: at least one.
        T_camera_window: float64 [S, 4, 4], the poses from which the points start.
        depth_error: relative, of a point; the same in all frames that see it, because their depths err alike.
    """

    def __init__(self, sightings: Sightings, T_camera_window: np.ndarray, depth_error: float) -> None:
        self._sightings = sightings
        self._starts = sightings.starts()
        self.depth_error = depth_error
        self._depth_counts = np.sqrt(np.bincount(sightings.point, sightings.depth > 0))[sightings.point]
        self._points = _back_projected(T_camera_window, sightings)
        self._of_frame = (np.arange(len(T_camera_window))[:, None] == sightings.frame).astype(float)

    def add(self, equations: NormalEquations, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> None:
        """Adds the sightings' errors, least over all places of the points."""
        terms = self._linearise(poses, log_scales, kernel)
        by_frame, by_point, frames, count = terms.by_frame, terms.by_point, len(poses), len(self._points)
        self._eliminate(terms)
        cross = np.zeros((count, 3, frames, VARIABLES))
        cross[self._sightings.point, :, self._sightings.frame] = np.einsum("kim,kjm->mij", by_point, by_frame)
        self._cross = (self._unroot @ cross.reshape(count, 3, -1)).reshape(-1, frames * VARIABLES)

        everyone = np.arange(frames)
        squares = np.einsum("kim,kjm->mij", by_frame, by_frame).reshape(len(self._sightings.frame), -1)
        equations.matrix[everyone, :, everyone] += (self._of_frame @ squares).reshape(-1, VARIABLES, VARIABLES)
        equations.matrix -= (self._cross.T @ self._cross).reshape(equations.matrix.shape)
        equations.vector += self._of_frame @ np.einsum("kim,km->mi", by_frame, terms.errors)
        equations.vector -= (self._cross.T @ self._gradient).reshape(equations.vector.shape)

    def cost(self, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> float:
        """What ``add`` makes small, where the points lie now."""
        return float(self.costs(poses, log_scales, kernel).sum())

    def costs(self, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> np.ndarray:
        """The robust cost of each sighting, [M]; ``kernel`` squared at most, for where it is seen."""
        terms = self._linearise(poses, log_scales, kernel)
        depth = terms.depth_squared / (1 + terms.depth_squared / FITS**2)
        return terms.squared / (1 + terms.squared / kernel**2) + depth

    def squared(self, poses: np.ndarray, log_scales: np.ndarray) -> np.ndarray:
        """Squared distances [M] between where points are and should be seen, in standard deviations."""
        return self._linearise(poses, log_scales, FITS).squared

    def move(self, step: np.ndarray) -> np.ndarray:
        """Takes the points to where they fit best when the frames go by ``step`` [S, 7]; where they were."""
        before = self._points
        rest = self._gradient + self._cross @ step.ravel()
        self._points = before - np.einsum("pji,pj->pi", self._unroot, rest.reshape(-1, 3))
        return before

    @property
    def points(self) -> np.ndarray:
        """Where the points lie in the window frame, float64 [P, 3]."""
        return self._points

    def back(self, points: np.ndarray) -> None:
        """Undoes ``move``."""
        self._points = points

    def settle(self, poses: np.ndarray, log_scales: np.ndarray, kernel: float, steps: int = 4) -> None:
        """Takes the points to where they fit best while the frames stay."""
        for _ in range(steps):
            before, cost = self._points, self._point_costs(poses, log_scales, kernel)
            self._eliminate(self._linearise(poses, log_scales, kernel))
            self._points = before - np.einsum("pji,pj->pi", self._unroot, self._gradient.reshape(-1, 3))
            worse = ~(self._point_costs(poses, log_scales, kernel) <= cost)
            self._points[worse] = before[worse]

    def depth_spread(self, poses: np.ndarray, log_scales: np.ndarray) -> float:
        """Robust relative deviation of the depths from where the points lie (1.48 times the median)."""
        known = self._sightings.depth > 0
        terms = self._linearise(poses, log_scales, FITS)
        return float(1.48 * np.median(np.abs(terms.deeper[known]))) if known.any() else 0.0

    def _point_costs(self, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> np.ndarray:
        return np.add.reduceat(self.costs(poses, log_scales, kernel), self._starts)

    def _eliminate(self, terms: _Terms) -> None:
        """Prepares what each point's own equations are solved with."""
        own = np.add.reduceat(np.einsum("kim,kjm->mij", terms.by_point, terms.by_point), self._starts)
        gradient = np.add.reduceat(np.einsum("kim,km->mi", terms.by_point, terms.errors), self._starts)
        # own = root root^T; what is multiplied by root^-1 on both sides of a product has own^-1 between them.
        self._unroot = np.linalg.inv(np.linalg.cholesky(own + np.eye(3) / _POINT_ERROR**2))
        self._gradient = (self._unroot @ gradient[:, :, None]).ravel()

    def _linearise(self, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> _Terms:
        sightings = self._sightings
        frame, point = sightings.frame, sightings.point
        rotation = np.ascontiguousarray(poses[frame, :3, :3].transpose(1, 2, 0))
        x, y, z = np.einsum("ijm,mj->im", rotation, self._points[point]) + poses[frame, :3, 3].T
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
        has_depth = sightings.depth > 0
        deeper = np.where(has_depth, np.log(z / np.where(has_depth, sightings.depth, 1)) - log_scales[frame], 0)

        # Geman-McClure: what does not fit loses its say altogether. What is behind a camera has none, and costs all.
        squared = (off**2).sum(axis=0) / sightings.ray_error**2
        depth_errors = self.depth_error * np.maximum(self._depth_counts, 1)
        depth_squared = (deeper / depth_errors) ** 2
        seen = in_front / (1 + squared / kernel**2) / sightings.ray_error
        known = has_depth / (1 + depth_squared / FITS**2) / depth_errors
        weights = np.stack([seen, seen, known])
        errors = np.concatenate([off, deeper[None]]) * weights
        squared = np.where(in_front, squared, 1e12)
        return _Terms(errors, by_frame * weights[:, None], by_point * weights[:, None], squared, depth_squared, deeper)


def _back_projected(T_camera_window: np.ndarray, sightings: Sightings) -> np.ndarray:
    """Where the depths put each point, [P, 3]: the mean of its sightings with a depth."""
    T_window_camera = invert(T_camera_window)[sightings.frame]
    own = sightings.rays * sightings.depth[:, None]
    placed = np.einsum("mij,mj->mi", T_window_camera[:, :3, :3], own) + T_window_camera[:, :3, 3]
    known = (sightings.depth > 0).astype(float)
    starts = sightings.starts()
    counts = np.add.reduceat(known, starts)
    return np.add.reduceat(placed * known[:, None], starts) / np.maximum(counts, 1)[:, None]


@dataclass(frozen=True, eq=False)
class _Terms:
    """Errors of M sightings in standard deviations and their derivatives, robust weights applied.

    Three for each: of the two coordinates at which the point is seen, and of the logarithm of its depth. The sightings
    come last, so that everything is done on long rows of memory.

    Attributes:
        errors: [3, M].
        by_frame: [3, 7, M], when the pose becomes ``exp(step) @ pose``.
        by_point: [3, 3, M], by the point in the window frame.
        squared: [M], of where the point is seen, without weights.
        depth_squared: [M], of its depth, without weights.
        deeper: [M], logarithm of its depth over the one that was given.
    """

    errors: np.ndarray
    by_frame: np.ndarray
    by_point: np.ndarray
    squared: np.ndarray
    depth_squared: np.ndarray
    deeper: np.ndarray
