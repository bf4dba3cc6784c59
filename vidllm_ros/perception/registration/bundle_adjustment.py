"""Camera poses and depth scales that agree with points seen by several frames (bundle adjustment).

Levenberg-Marquardt over the frames' poses, one factor for each frame's depth, and the points (Triggs et al., "Bundle
Adjustment - A Modern Synthesis", 1999): errors of where points are seen, under a robust kernel, with the network's
depth, without which nothing would be metric, and known motions, which frames without points keep. A step is taken only
if it makes the cost smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vidllm_ros.perception.adjustment.normal_equations import NormalEquations, exponential
from vidllm_ros.perception.geometry.transforms import nearest_rotation
from vidllm_ros.perception.registration.pair_terms import match_pairs
from vidllm_ros.perception.registration.point_terms import PointTerms
from vidllm_ros.perception.registration.sightings import Sightings

# Widths of the robust kernel, in standard deviations: wide at first, when good points are far off too (graduated
# non-convexity).
KERNELS = (10.0, 5.0, 3.0)
_COARSE_KERNELS = (20, 20, 10, 10, 5, 5, 3, 3)  # pairs of frames, one match out of ``_COARSE``
_COARSE = 4
_STEPS = 5  # for each width, at most
_FIRST_DAMPING = 1e-4
_TRIES = 4  # with growing damping, before a width is left
_ENOUGH = 2e-3  # relative gain of a step, below which the width is left
_MAX_DEPTH_ERROR = 0.5  # relative


class Terms(Protocol):
    """Errors to be made small."""

    def add(self, equations: NormalEquations, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> Any:
        """Adds them, under a robust kernel."""

    def cost(self, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> float:
        """Their robust sum of squares."""

    def move(self, step: np.ndarray) -> Any:
        """Takes what belongs to the terms alone along with a step of the frames; what ``back`` needs to undo it."""

    def back(self, before: Any) -> None:
        """Undoes ``move``."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Cameras that fit.

    Attributes:
        T_camera_window: float64 [S, 4, 4], the first one as it was.
        log_scales: float64 [S] of the frames' depths.
        covariances: float64 [S, 6, 6] of the steps (rotation, translation) before each pose, for errors as they were
            assumed; zeros for the first one.
        depth_error: relative, as it was assumed in the end.
    """

    T_camera_window: np.ndarray
    log_scales: np.ndarray
    covariances: np.ndarray
    depth_error: float


def adjust(
    T_camera_window: np.ndarray,
    sightings: Sightings,
    motions: Sequence[Terms],
    depth_error: float,
    frame_error: float,
) -> Solution:
    """Adjusts poses; the first camera stays.

    Args:
        T_camera_window: float64 [S, 4, 4] window to camera, near the truth.
        sightings: at least one.
        motions: what else is known.
        depth_error: relative, of a point's depth. It grows to what the points show.
        frame_error: relative, of the depths of one frame together.

    Raises:
        LinAlgError: the equations have no finite solution.
    """
    poses, log_scales = T_camera_window, np.zeros(len(T_camera_window))
    points = PointTerms(sightings, poses, depth_error)
    points.settle(poses, log_scales, KERNELS[0], steps=2)
    terms: list[Terms] = [points, *motions, _ScaleTerms(frame_error)]
    for kernel in KERNELS:
        poses, log_scales = _minimise(terms, poses, log_scales, kernel)
        shown = min(points.depth_spread(poses, log_scales), _MAX_DEPTH_ERROR)
        if shown > points.depth_error:
            points.depth_error = shown
    equations = _equations(terms, poses, log_scales, KERNELS[-1])
    poses = poses.copy()
    poses[:, :3, :3] = nearest_rotation(poses[:, :3, :3])
    return Solution(poses, log_scales, equations.covariances(), points.depth_error)


def approach(T_camera_window: np.ndarray, sightings: Sightings, motions: Sequence[Terms], frame_error: float) -> Any:
    """Poses [S, 4, 4] led near the truth from far off by pairs of frames, which need not agree on points.

    Raises:
        LinAlgError: the equations have no finite solution.
    """
    poses, log_scales = T_camera_window, np.zeros(len(T_camera_window))
    pairs = match_pairs(sightings, len(poses)).every(_COARSE)
    if not len(pairs.points):
        return T_camera_window
    scales = _ScaleTerms(frame_error)
    for kernel in _COARSE_KERNELS:
        equations = NormalEquations(len(poses))
        pairs.add(equations, poses, log_scales, kernel)
        for term in (*motions, scales):
            term.add(equations, poses, log_scales, kernel)
        step = equations.solve()
        poses, log_scales = exponential(step[:, :6]) @ poses, log_scales + step[:, 6]
    poses[:, :3, :3] = nearest_rotation(poses[:, :3, :3])
    return poses


def _equations(terms: Sequence[Terms], poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> NormalEquations:
    equations = NormalEquations(len(poses))
    for term in terms:
        term.add(equations, poses, log_scales, kernel)
    return equations


def _minimise(
    terms: Sequence[Terms], poses: np.ndarray, log_scales: np.ndarray, kernel: float
) -> tuple[np.ndarray, np.ndarray]:
    """Steps under one width of the kernel, each of which makes the cost smaller."""

    def total(poses: np.ndarray, log_scales: np.ndarray) -> float:
        return sum(term.cost(poses, log_scales, kernel) for term in terms)

    damping, cost = _FIRST_DAMPING, total(poses, log_scales)
    for _ in range(_STEPS):
        equations = _equations(terms, poses, log_scales, kernel)
        for _ in range(_TRIES):
            step = equations.solve(damping)
            before = [term.move(step) for term in terms]
            moved, scaled = exponential(step[:, :6]) @ poses, log_scales + step[:, 6]
            reached = total(moved, scaled)
            if reached <= cost:
                break
            for term, held in zip(terms, before, strict=True):
                term.back(held)
            damping *= 30
        else:
            return poses, log_scales
        damping = max(damping / 10, 1e-6)
        gain, cost = (cost - reached) / max(cost, 1e-12), reached
        poses, log_scales = moved, scaled
        if gain < _ENOUGH:
            break
    return poses, log_scales


class _ScaleTerms:
    """Depths of the scale that the network gave them; of one frame as exact as said, of all S as 1 / sqrt(S) of it."""

    def __init__(self, frame_error: float) -> None:
        self._weight = frame_error**-2

    def add(self, equations: NormalEquations, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> None:
        frames = np.arange(len(log_scales))
        equations.matrix[frames, 6, frames, 6] += self._weight
        equations.vector[:, 6] += self._weight * log_scales

    def cost(self, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> float:
        return float(self._weight * (log_scales**2).sum())

    def move(self, step: np.ndarray) -> None:
        """Nothing here moves with the frames."""

    def back(self, before: None) -> None:
        """Nothing was moved."""
