"""Camera poses and depth scales that agree with points seen by several frames, starting from the network's.

The network's poses are smooth and without gross errors, but each is some degrees off; points followed through images
are exact to a fraction of a pixel and sometimes wrong. Least squares joins both (bundle adjustment; Triggs et al.,
"Bundle Adjustment - A Modern Synthesis", 1999): errors of where points are seen, under a robust kernel, with the
network's depth, without which nothing would be metric, and its motion from frame to frame, which frames without points
keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.adjustment.normal_equations import NormalEquations, adjoint, exponential
from vidllm_ros.perception.adjustment.pair_terms import match_pairs
from vidllm_ros.perception.adjustment.point_terms import PointTerms
from vidllm_ros.perception.adjustment.sightings import Sightings
from vidllm_ros.perception.geometry.transforms import invert, nearest_rotation

# Standard deviations.
_SCALE_ERROR = 0.007  # relative, of the mean depth of a window; of one frame's, sqrt(frames) times as much
_ROTATION_ERROR = np.radians(1.5)  # of the network, from frame to frame
_TRANSLATION_ERROR = 0.03  # metres, the same

# Widths of the robust kernel, in standard deviations, step by step: wide at first, when good points are far off too
# (graduated non-convexity).
_APPROACH = (20, 20, 10, 10, 5, 5, 3, 3)  # pairs of frames, one match out of ``_COARSE``
_COARSE = 4
_POINTS = (5, 3, 2, 2)
_PAIRS = (2, 2, 2, 2)  # pairs of frames, every match
_MIN_FITTING = 0.5  # share of matches that must agree; in rooms it is above 0.75
_MIN_STILL = 0.78  # share of sightings that must agree with points that lie still; in rooms it is about 0.9


def adjust(T_camera_window: np.ndarray, sightings: Sightings) -> tuple[np.ndarray, np.ndarray]:
    """Adjusts poses; the first camera stays.

    Pairs of frames lead near the truth from far off. Points in all frames at once are more exact from there, if they
    lie still; if not, pairs have the last word.

    Args:
        T_camera_window: float64 [S, 4, 4] window to camera, as the network gave them.
        sightings: at least one.

    Returns:
        T_camera_window float64 [S, 4, 4], and the factors float64 [S] of the frames' depths. The input and ones when
        the sightings do not agree on any motion or the equations have no finite solution.
    """
    state = _State(T_camera_window)
    pairs = match_pairs(sightings, len(T_camera_window))
    try:
        if not len(pairs.points) or state.approach(pairs.every(_COARSE), _APPROACH) < _MIN_FITTING:
            return T_camera_window, np.ones(len(T_camera_window))
        near = state.poses, state.log_scales
        if state.approach(PointTerms(sightings, state.poses), _POINTS) < _MIN_STILL:
            state.poses, state.log_scales = near
            state.approach(pairs, _PAIRS)
    except np.linalg.LinAlgError:
        return T_camera_window, np.ones(len(T_camera_window))
    state.poses[:, :3, :3] = nearest_rotation(state.poses[:, :3, :3])
    return state.poses, np.exp(state.log_scales)


class _Terms(Protocol):
    """Errors to be made small."""

    def add(self, equations: NormalEquations, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> float:
        """Adds them, under a robust kernel; the share that fits."""

    def move(self, step: np.ndarray) -> None:
        """Takes what belongs to the terms alone along with a step of the frames."""


class _State:
    """The frames' variables on their way from the network's values.

    Attributes:
        poses: [S, 4, 4] window to camera.
        log_scales: [S], of the frames' depths.
    """

    def __init__(self, T_camera_window: np.ndarray) -> None:
        self.poses = T_camera_window
        self.log_scales = np.zeros(len(T_camera_window))
        self._motion = T_camera_window[1:] @ invert(T_camera_window[:-1])

    def approach(self, terms: _Terms, kernels: Sequence[float]) -> float:
        """One Gauss-Newton step for each width of the kernel; the share that fitted before the last one.

        Raises:
            LinAlgError: the equations have no finite solution.
        """
        fitting = 0.0
        for kernel in kernels:
            equations = NormalEquations(len(self.poses))
            fitting = terms.add(equations, self.poses, self.log_scales, kernel)
            self._add_priors(equations)
            step = equations.solve()
            terms.move(step)
            self.poses = exponential(step[:, :6]) @ self.poses
            self.log_scales = self.log_scales + step[:, 6]
        return fitting

    def _add_priors(self, equations: NormalEquations) -> None:
        """The network's motion from frame to frame, and depths of the scale that it gave them."""
        relative = self.poses[1:] @ invert(self.poses[:-1])
        difference = relative @ invert(self._motion)
        turns = Rotation.from_matrix(difference[:, :3, :3]).as_rotvec()
        errors = np.concatenate([turns, difference[:, :3, 3]], axis=1)
        weights = np.repeat([_ROTATION_ERROR**-2, _TRANSLATION_ERROR**-2], 3)
        jacobian = np.zeros((len(errors), 6, 14))
        jacobian[:, :, :6] = -adjoint(relative)
        jacobian[:, :, 7:13] = np.eye(6)
        weighted = jacobian.swapaxes(1, 2) * weights
        frames = np.arange(len(self.poses))
        equations.add((frames[:-1], frames[1:]), weighted @ jacobian, np.einsum("fij,fj->fi", weighted, errors))
        variance = len(self.poses) * _SCALE_ERROR**2
        equations.matrix[frames, 6, frames, 6] += 1 / variance
        equations.vector[:, 6] += self.log_scales / variance
