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
_FINE = 2  # needs every match; one out of ``_COARSE`` leads there in a fraction of the time
_COARSE = 4
_FITS = 3  # standard deviations within which a match agrees with the result
_MIN_FITTING = 0.5  # share of matches that must; in rooms it is above 0.8, between unrelated images about 0.2
_MAX_TURN = 0.3  # radians that one step may turn a camera; beyond, the linearisation means nothing
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

    def by_pair(self) -> Observations:
        """The same, pair of frames after pair of frames."""
        order = np.lexsort((self.target, self.source))
        return Observations(self.source[order], self.target[order], self.points[order], self.seen[order])

    def starts(self) -> np.ndarray:
        """Where each pair begins, after ``by_pair``."""
        changes = (np.diff(self.source) != 0) | (np.diff(self.target) != 0)
        return np.flatnonzero(np.concatenate([[True], changes]))

    def every(self, step: int) -> Observations:
        """One match out of ``step``."""
        return Observations(self.source[::step], self.target[::step], self.points[::step], self.seen[::step])


def adjust(T_camera_window: np.ndarray, observations: Observations) -> tuple[np.ndarray, np.ndarray]:
    """Adjusts poses; the first camera stays.

    Args:
        T_camera_window: float64 [S, 4, 4] window to camera, as the network gave them.
        observations: at least one.

    Returns:
        T_camera_window float64 [S, 4, 4], and the factors float64 [S] of the frames' depths. The input and ones when
        the matches do not agree on any motion or the equations have no finite solution.
    """
    poses, log_scales = T_camera_window.copy(), np.zeros(len(T_camera_window))
    motion = T_camera_window[1:] @ invert(T_camera_window[:-1])
    everything = observations.by_pair()
    some = everything.every(_COARSE)
    try:
        for kernel in _KERNELS:
            equations = _NormalEquations(len(poses))
            matches = everything if kernel <= _FINE else some
            fitting = _add_reprojections(equations, matches, poses, log_scales, kernel)
            _add_prior(equations, poses, log_scales, motion)
            step = equations.solve()
            step *= min(1.0, _MAX_TURN / max(np.abs(step[:, :3]).max(), 1e-9))
            poses = _exponential(step[:, :6]) @ poses
            log_scales = log_scales + step[:, 6]
    except np.linalg.LinAlgError:
        fitting = 0.0
    if fitting < _MIN_FITTING:
        return T_camera_window, np.ones(len(T_camera_window))
    poses[:, :3, :3] = nearest_rotation(poses[:, :3, :3])
    return poses, np.exp(log_scales)


class _NormalEquations:
    """Sums of squares over the variables of ``frames`` frames."""

    def __init__(self, frames: int) -> None:
        self._matrix = np.zeros((frames, frames, _VARIABLES, _VARIABLES))
        self._vector = np.zeros((frames, _VARIABLES))

    def add(self, frames: tuple[np.ndarray, ...], matrices: np.ndarray, vectors: np.ndarray) -> None:
        """Adds N terms, each of which depends on F frames; no two of them on the same frames.

        Args:
            frames: F times int [N].
            matrices: J^T W J [N, 7 F, 7 F], with the derivatives J of the errors and their weights W.
            vectors: J^T W r [N, 7 F], with the errors r.
        """
        everyone = np.arange(len(self._vector))
        for a, row in enumerate(frames):
            own = slice(a * _VARIABLES, (a + 1) * _VARIABLES)
            member = (everyone[:, None] == row).astype(float)
            self._vector += member @ vectors[:, own]
            diagonal = member @ matrices[:, own, own].reshape(len(row), -1)
            self._matrix[everyone, everyone] += diagonal.reshape(-1, _VARIABLES, _VARIABLES)
            for b, column in enumerate(frames):
                if b != a:
                    self._matrix[row, column] += matrices[:, own, b * _VARIABLES : (b + 1) * _VARIABLES]

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


def _add_reprojections(
    equations: _NormalEquations,
    observations: Observations,
    poses: np.ndarray,
    log_scales: np.ndarray,
    kernel: float,
) -> float:
    """Errors of where targets see the points of sources, one term for each pair of frames; the share that fits.

    Poses change by ``exp(step) @ pose``. Seen from the target, a step of the source is a step of the target by minus
    the adjoint of the motion between them, for all matches of the pair; so only the target's derivatives are computed
    match by match.
    """
    starts = observations.starts()
    sources, targets = observations.source[starts], observations.target[starts]
    motion = poses[targets] @ invert(poses[sources])
    scales = np.exp(log_scales)[sources]
    jacobian, weighted, residuals, squared = _reproject(observations, starts, motion, scales, kernel)
    # Each pair's J^T W [J, r].
    products = np.einsum("cjm,ckm->jkm", weighted, np.concatenate([jacobian, residuals[:, None]], axis=1))
    sums = np.moveaxis(np.add.reduceat(products, starts, axis=2), 2, 0)
    matrices, vectors = sums[:, :, :_VARIABLES], sums[:, :, _VARIABLES]

    to_both = np.zeros((len(starts), _VARIABLES, 2 * _VARIABLES))
    to_both[:, :6, :6] = -_adjoint(motion)
    to_both[:, 6, 6] = 1
    to_both[:, :6, 7:13] = np.eye(6)
    to_source_and_target = to_both.swapaxes(1, 2)
    equations.add(
        (sources, targets),
        to_source_and_target @ matrices @ to_both,
        np.einsum("pij,pj->pi", to_source_and_target, vectors),
    )
    return float(np.mean(squared < _FITS**2))


def _reproject(
    observations: Observations, starts: np.ndarray, motion: np.ndarray, scales: np.ndarray, kernel: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the targets see the points, and how that changes.

    The matches come last, so that everything is done on long rows of memory.

    Args:
        observations: pair after pair.
        starts: where each of the P pairs begins.
        motion: from source to target, [P, 4, 4].
        scales: of the sources' depths, [P].
        kernel: width of the robust kernel.

    Returns:
        Derivatives [2, 7, M] by the target's pose and the depth's logarithm, those times the weights, residuals [2, M],
        and their squares in standard deviations [M].
    """
    counts = np.diff([*starts, len(observations.points)])
    rotation = np.repeat(scales[:, None, None] * motion[:, :3, :3], counts, axis=0)
    turned = np.einsum("mij,mj->im", rotation, observations.points)
    points = turned + np.repeat(motion[:, :3, 3], counts, axis=0).T
    in_front = points[2] > _MIN_DEPTH
    over_z = 1 / np.maximum(points[2], _MIN_DEPTH)
    x, y = points[:2] * over_z
    residuals = np.stack([x, y]) - observations.seen.T

    zero = np.zeros_like(x)
    by_u = (-x * y, 1 + x * x, -y, over_z, zero, -x * over_z, (turned[0] - x * turned[2]) * over_z)
    by_v = (-1 - y * y, x * y, x, zero, over_z, -y * over_z, (turned[1] - y * turned[2]) * over_z)
    jacobian = np.array([by_u, by_v])

    # The inverse covariance of a reprojection that moves by d when the logarithm of the depth grows by 1:
    # (1 - share d d^T) / match error^2.
    by_depth = jacobian[:, 6]
    share = _DEPTH_ERROR**2 / (_MATCH_ERROR**2 + _DEPTH_ERROR**2 * (by_depth**2).sum(axis=0))
    along = (by_depth * residuals).sum(axis=0)
    squared = ((residuals**2).sum(axis=0) - share * along**2) / _MATCH_ERROR**2
    # Geman-McClure: a match that does not fit loses its say altogether.
    weights = in_front / (1 + squared / kernel**2) ** 2 / _MATCH_ERROR**2
    weighted = jacobian - by_depth[:, None] * (share * (by_depth[:, None] * jacobian).sum(axis=0))
    return jacobian, weighted * weights, residuals, squared


def _add_prior(equations: _NormalEquations, poses: np.ndarray, log_scales: np.ndarray, motion: np.ndarray) -> None:
    """The network's motion from frame to frame [S - 1, 4, 4], and depths of the scale that it gave them."""
    relative = poses[1:] @ invert(poses[:-1])
    difference = relative @ invert(motion)
    errors = np.concatenate([Rotation.from_matrix(difference[:, :3, :3]).as_rotvec(), difference[:, :3, 3]], axis=1)
    weights = np.diag(np.repeat([_ROTATION_ERROR**-2, _TRANSLATION_ERROR**-2], 3))
    jacobian = np.zeros((len(errors), 6, 2 * _VARIABLES))
    jacobian[:, :, :6] = -_adjoint(relative)
    jacobian[:, :, 7:13] = np.eye(6)
    weighted = jacobian.swapaxes(1, 2) @ weights
    frames = np.arange(len(poses))
    equations.add((frames[:-1], frames[1:]), weighted @ jacobian, np.einsum("fij,fj->fi", weighted, errors))
    by_scale = np.eye(_VARIABLES)[6] / _SCALE_ERROR
    equations.add(
        (frames,),
        np.tile(np.outer(by_scale, by_scale), (len(poses), 1, 1)),
        log_scales[:, None] * by_scale / _SCALE_ERROR,
    )


def _adjoint(transforms: np.ndarray) -> np.ndarray:
    """What ``exp(step)`` before a transform [N, 4, 4] is after it, [N, 6, 6] on (rotation, translation)."""
    rotation = transforms[:, :3, :3]
    result = np.zeros((len(transforms), 6, 6))
    result[:, :3, :3] = result[:, 3:, 3:] = rotation
    # [t]x R column by column: t x (column of R).
    result[:, 3:, :3] = np.cross(transforms[:, None, :3, 3], rotation.swapaxes(1, 2)).swapaxes(1, 2)
    return result


def _exponential(steps: np.ndarray) -> np.ndarray:
    """Transforms [N, 4, 4] that rotate by a rotation vector, then translate: [N, 6]; equal to exp in first order."""
    result = np.tile(np.eye(4), (len(steps), 1, 1))
    result[:, :3, :3] = Rotation.from_rotvec(steps[:, :3]).as_matrix()
    result[:, :3, 3] = steps[:, 3:]
    return result
