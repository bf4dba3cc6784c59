"""Camera poses and depth scales that agree with matches between frames, starting from the network's.

The network's poses are smooth and without gross errors, but each is some degrees off; matches are exact to a fraction
of a pixel and sometimes wrong. Least squares joins both: the reprojection errors of all matches under a robust kernel,
with the network's motion from frame to frame as a prior, so that frames without matches keep it. The points themselves
are not variables: the error of a point's depth is part of the covariance of its reprojection, which makes that
covariance long along the epipolar line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.transforms import invert, nearest_rotation

# Standard deviations. Those of matches are over the focal length; 0.005 is 0.4 pixels of an image 84 high.
_MATCH_ERROR = 0.005
_DEPTH_ERROR = 0.3  # relative, of a single pixel: small, and systematic errors of depth would bend the path
_SCALE_ERROR = 0.04  # relative, of the depth of a whole frame
_ROTATION_ERROR = np.radians(1.5)  # of the network, from frame to frame
_TRANSLATION_ERROR = 0.03  # metres, the same

# Widths of the robust kernel, in standard deviations: wide at first, when good matches are far off too (graduated
# non-convexity).
_KERNELS = (20, 20, 10, 10, 5, 5, 3, 3, 2, 2, 2, 2)
_MAX_TURN = (
    0.3  # radians that one step may turn a camera; more leaves the range where the linearisation means something
)
_MIN_DEPTH = 0.05  # metres in front of the camera, nearer than which a match has no say
_VARIABLES = 7  # of a frame: rotation, translation, logarithm of the depth's scale


@dataclass(frozen=True, eq=False)
class Observations:
    """Points that one frame gives a depth and another one sees, both on the plane at z = 1. ``M`` matches.

    Attributes:
        source: int [M], the frame that gives the depth.
        target: int [M], the frame that sees the point too.
        points: float64 [M, 3] metres in the source camera (optical axes).
        seen: float64 [M, 2] (x / z, y / z) in the target camera.
    """

    source: np.ndarray
    target: np.ndarray
    points: np.ndarray
    seen: np.ndarray

    def by_pair(self) -> tuple[Observations, np.ndarray]:
        """The same, pair of frames after pair of frames, and where each pair begins."""
        order = np.lexsort((self.target, self.source))
        values = (self.source, self.target, self.points, self.seen)
        ordered = Observations(*(value[order] for value in values))
        changes = (np.diff(ordered.source) != 0) | (np.diff(ordered.target) != 0)
        return ordered, np.flatnonzero(np.concatenate([[True], changes]))


def adjust(T_camera_window: np.ndarray, observations: Observations) -> tuple[np.ndarray, np.ndarray]:
    """Adjusts poses; the first camera stays.

    Args:
        T_camera_window: float64 [S, 4, 4] window to camera, as the network gave them.
        observations: at least one.

    Returns:
        T_camera_window float64 [S, 4, 4], and the factors float64 [S] of the frames' depths. The input and ones when
        the equations have no finite solution.
    """
    poses, log_scales = T_camera_window.copy(), np.zeros(len(T_camera_window))
    motion = T_camera_window[1:] @ invert(T_camera_window[:-1])
    ordered, starts = observations.by_pair()
    try:
        for kernel in _KERNELS:
            equations = _NormalEquations(len(poses))
            equations.add((ordered.source, ordered.target), *_reprojection(ordered, poses, log_scales, kernel), starts)
            _add_prior(equations, poses, log_scales, motion)
            step = equations.solve()
            step *= min(1.0, _MAX_TURN / max(np.abs(step[:, :3]).max(), 1e-9))
            poses = _exponential(step[:, :6]) @ poses
            log_scales = log_scales + step[:, 6]
    except np.linalg.LinAlgError:
        return T_camera_window, np.ones(len(T_camera_window))
    poses[:, :3, :3] = nearest_rotation(poses[:, :3, :3])
    return poses, np.exp(log_scales)


class _NormalEquations:
    """Sums of squares over the variables of ``frames`` frames."""

    def __init__(self, frames: int) -> None:
        self._matrix = np.zeros((frames, frames, _VARIABLES, _VARIABLES))
        self._vector = np.zeros((frames, _VARIABLES))

    def add(
        self,
        frames: tuple[np.ndarray, ...],
        jacobian: np.ndarray,
        weighted: np.ndarray,
        residuals: np.ndarray,
        starts: np.ndarray | None = None,
    ) -> None:
        """Adds N errors of R numbers.

        Args:
            frames: the F frames that each error depends on, int [N] each.
            jacobian: derivatives [N, R, F * 7].
            weighted: those times the weights [R, R] of each error.
            residuals: the errors [N, R].
            starts: where errors of the same frames begin, when they lie together; they are summed at once.
        """
        starts = np.arange(len(residuals)) if starts is None else starts
        groups = [slice(*ends) for ends in zip(starts, [*starts[1:], len(residuals)], strict=True)]
        columns = jacobian.shape[2]
        flat = [values.reshape(len(residuals), -1, columns) for values in (weighted, jacobian)]
        matrices = np.stack([np.tensordot(flat[0][g], flat[1][g], ((0, 1), (0, 1))) for g in groups])
        vectors = np.stack([np.tensordot(flat[0][g], residuals[g], ((0, 1), (0, 1))) for g in groups])
        for a, row in enumerate(frames):
            own = slice(a * _VARIABLES, (a + 1) * _VARIABLES)
            np.add.at(self._vector, row[starts], vectors[:, own])
            for b, column in enumerate(frames):
                other = slice(b * _VARIABLES, (b + 1) * _VARIABLES)
                np.add.at(self._matrix, (row[starts], column[starts]), matrices[:, own, other])

    def solve(self) -> np.ndarray:
        """The step [frames, 7] to the minimum, with the pose of frame 0 held.

        Raises:
            LinAlgError: there is no finite one.
        """
        matrix = self._matrix.transpose(0, 2, 1, 3).reshape(self._vector.size, -1)[6:, 6:]
        step = np.zeros(self._vector.size)
        step[6:] = -np.linalg.solve(matrix, self._vector.ravel()[6:])
        if not np.isfinite(step).all():
            raise np.linalg.LinAlgError("the step is not finite")
        return step.reshape(self._vector.shape)


def _reprojection(
    observations: Observations, poses: np.ndarray, log_scales: np.ndarray, kernel: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where targets see the points of sources: jacobian, weighted and residuals of ``_NormalEquations.add``.

    Poses change by ``exp(step) @ pose``, so a point p in its own camera changes by (rotation x p) + translation.
    """
    T_target_source = (poses[:, None] @ invert(poses))[observations.target, observations.source]
    rotation = T_target_source[:, :3, :3]
    scaled = observations.points * np.exp(log_scales)[observations.source, None]
    turned = np.einsum("mij,mj->mi", rotation, scaled)
    points = turned + T_target_source[:, :3, 3]
    in_front = points[:, 2] > _MIN_DEPTH
    over_z = 1 / np.maximum(points[:, 2], _MIN_DEPTH)
    residuals = points[:, :2] * over_z[:, None] - observations.seen

    by_point = np.zeros((len(points), 2, 3))
    by_point[:, [0, 1], [0, 1]] = over_z[:, None]
    by_point[:, :, 2] = -points[:, :2] * over_z[:, None] ** 2
    by_source_point = np.einsum("mri,mij->mrj", by_point, rotation)
    by_depth = np.einsum("mri,mi->mr", by_point, turned)
    jacobian = np.empty((len(points), 2, 2 * _VARIABLES))
    jacobian[:, :, :3] = _cross(by_source_point, scaled[:, None])
    jacobian[:, :, 3:6] = -by_source_point
    jacobian[:, :, 6] = by_depth
    jacobian[:, :, 7:10] = -_cross(by_point, points[:, None])
    jacobian[:, :, 10:13] = by_point
    jacobian[:, :, 13] = 0

    information = _information(by_depth)
    squared = np.einsum("mi,mij,mj->m", residuals, information, residuals)
    # Geman-McClure: a match that does not fit loses its say altogether.
    information *= (in_front / (1 + squared / kernel**2) ** 2)[:, None, None]
    weighted = np.einsum("mrs,msj->mrj", information, jacobian)
    return jacobian, weighted, residuals


def _information(by_depth: np.ndarray) -> np.ndarray:
    """Inverse covariance [M, 2, 2] of a reprojection that moves by ``by_depth`` [M, 2] when the depth grows by 1."""
    share = _DEPTH_ERROR**2 / (_MATCH_ERROR**2 + _DEPTH_ERROR**2 * (by_depth**2).sum(axis=1))
    return (np.eye(2) - share[:, None, None] * by_depth[:, :, None] * by_depth[:, None, :]) / _MATCH_ERROR**2


def _add_prior(equations: _NormalEquations, poses: np.ndarray, log_scales: np.ndarray, motion: np.ndarray) -> None:
    """The network's motion from frame to frame [S - 1, 4, 4], and depths of the scale that it gave them."""
    relative = poses[1:] @ invert(poses[:-1])
    difference = relative @ invert(motion)
    errors = np.concatenate([Rotation.from_matrix(difference[:, :3, :3]).as_rotvec(), difference[:, :3, 3]], axis=1)
    weights = np.diag(np.repeat([_ROTATION_ERROR**-2, _TRANSLATION_ERROR**-2], 3))
    jacobian = np.zeros((len(errors), 6, 2 * _VARIABLES))
    jacobian[:, :, :6] = -_adjoint(relative)
    jacobian[:, :, 7:13] = np.eye(6)
    frames = np.arange(len(poses))
    equations.add((frames[:-1], frames[1:]), jacobian, weights @ jacobian, errors)
    by_scale = np.tile(np.eye(1, _VARIABLES, 6), (len(poses), 1, 1))
    equations.add((frames,), by_scale, by_scale / _SCALE_ERROR**2, log_scales[:, None])


def _adjoint(transforms: np.ndarray) -> np.ndarray:
    """What ``exp(step)`` before a transform [N, 4, 4] is after it, [N, 6, 6] on (rotation, translation)."""
    rotation = transforms[:, :3, :3]
    result = np.zeros((len(transforms), 6, 6))
    result[:, :3, :3] = result[:, 3:, 3:] = rotation
    # [t]x R column by column: t x (column of R).
    result[:, 3:, :3] = _cross(transforms[:, None, :3, 3], rotation.swapaxes(1, 2)).swapaxes(1, 2)
    return result


def _exponential(steps: np.ndarray) -> np.ndarray:
    """Transforms [N, 4, 4] that rotate by a rotation vector, then translate: [N, 6]; equal to exp in first order."""
    result = np.tile(np.eye(4), (len(steps), 1, 1))
    result[:, :3, :3] = Rotation.from_rotvec(steps[:, :3]).as_matrix()
    result[:, :3, 3] = steps[:, 3:]
    return result


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of [..., 3]; np.cross takes several times as long on small arrays."""
    (a0, a1, a2), (b0, b1, b2) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    return np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1)
