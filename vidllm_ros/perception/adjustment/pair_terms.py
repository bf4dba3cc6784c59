"""Where pairs of frames see the same points: each match by itself, the depth of one frame seen by the other.

Nothing ties the sightings of a point together but pair by pair. So this converges from far off, and keeps its head when
too many sightings do not agree with points that lie still, as in the fast turns of TUM fr1/rpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.perception.adjustment.normal_equations import VARIABLES, NormalEquations, adjoint
from vidllm_ros.perception.adjustment.sightings import FITS, MIN_DEPTH, PIXEL_ERROR, Sightings
from vidllm_ros.perception.geometry.transforms import invert

# How many frames lie between the two of a pair. Neighbours see nearly the same; the far ones keep a long window
# together.
GAPS = (1, 2, 4, 8, 16, 24)
DEPTH_ERROR = 0.3  # relative, of a single pixel: small, and systematic errors of depth would bend the path


@dataclass(frozen=True, eq=False)
class PairTerms:
    """Points that one frame gives a depth and another one sees: ``M`` matches, pair by pair.

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

    def starts(self) -> np.ndarray:
        """Where each pair begins."""
        changes = (np.diff(self.source) != 0) | (np.diff(self.target) != 0)
        return np.flatnonzero(np.concatenate([[True], changes]))

    def every(self, step: int) -> PairTerms:
        """One match out of ``step``."""
        return PairTerms(self.source[::step], self.target[::step], self.points[::step], self.seen[::step])

    def add(self, equations: NormalEquations, poses: np.ndarray, log_scales: np.ndarray, kernel: float) -> float:
        """Errors of where targets see the points of sources, one term for each pair of frames; the share that fits.

        Seen from the target, a step of the source is a step of the target by minus the adjoint of the motion between
        them, for all matches of the pair; so only the target's derivatives are computed match by match.
        """
        starts = self.starts()
        sources, targets = self.source[starts], self.target[starts]
        motion = poses[targets] @ invert(poses[sources])
        scales = np.exp(log_scales)[sources]
        jacobian, weighted, residuals, squared = _reproject(self, starts, motion, scales, kernel)
        # Each pair's J^T W [J, r].
        products = np.einsum("cjm,ckm->jkm", weighted, np.concatenate([jacobian, residuals[:, None]], axis=1))
        sums = np.moveaxis(np.add.reduceat(products, starts, axis=2), 2, 0)
        matrices, vectors = sums[:, :, :VARIABLES], sums[:, :, VARIABLES]

        to_both = np.zeros((len(starts), VARIABLES, 2 * VARIABLES))
        to_both[:, :6, :6] = -adjoint(motion)
        to_both[:, 6, 6] = 1
        to_both[:, :6, 7:13] = np.eye(6)
        to_source_and_target = to_both.swapaxes(1, 2)
        equations.add(
            (sources, targets),
            to_source_and_target @ matrices @ to_both,
            np.einsum("pij,pj->pi", to_source_and_target, vectors),
        )
        return float(np.mean(squared < FITS**2))

    def move(self, step: np.ndarray) -> None:
        """Nothing here moves with the frames."""


def match_pairs(sightings: Sightings, frames: int) -> PairTerms:
    """The matches between all frames that lie one of ``GAPS`` apart, in both directions."""
    # Which sighting a frame has of a point, -1 for none.
    index = np.full((frames, len(sightings.starts())), -1)
    index[sightings.frame, sightings.point] = np.arange(len(sightings.point))
    sources, targets = [np.zeros(0, int)], [np.zeros(0, int)]
    for gap in GAPS:
        first, second = index[:-gap], index[gap:]
        both = (first >= 0) & (second >= 0)
        sources += [first[both], second[both]]
        targets += [second[both], first[both]]
    source, target = np.concatenate(sources), np.concatenate(targets)
    points = sightings.rays[source] * sightings.depth[source, None]
    return PairTerms(sightings.frame[source], sightings.frame[target], points, sightings.rays[target, :2])


def _reproject(
    matches: PairTerms, starts: np.ndarray, motion: np.ndarray, scales: np.ndarray, kernel: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the targets see the points, and how that changes.

    The matches come last, so that everything is done on long rows of memory.

    Args:
        matches: pair after pair.
        starts: where each of the P pairs begins.
        motion: from source to target, [P, 4, 4].
        scales: of the sources' depths, [P].
        kernel: width of the robust kernel.

    Returns:
        Derivatives [2, 7, M] by the target's pose and the depth's logarithm, those times the weights, residuals [2, M],
        and their squares in standard deviations [M].
    """
    counts = np.diff([*starts, len(matches.points)])
    rotation = np.repeat(scales[:, None, None] * motion[:, :3, :3], counts, axis=0)
    turned = np.einsum("mij,mj->im", rotation, matches.points)
    points = turned + np.repeat(motion[:, :3, 3], counts, axis=0).T
    in_front = points[2] > MIN_DEPTH
    over_z = 1 / np.maximum(points[2], MIN_DEPTH)
    x, y = points[:2] * over_z
    residuals = np.stack([x, y]) - matches.seen.T

    zero = np.zeros_like(x)
    by_u = (-x * y, 1 + x * x, -y, over_z, zero, -x * over_z, (turned[0] - x * turned[2]) * over_z)
    by_v = (-1 - y * y, x * y, x, zero, over_z, -y * over_z, (turned[1] - y * turned[2]) * over_z)
    jacobian = np.array([by_u, by_v])

    # The inverse covariance of a reprojection that moves by d when the logarithm of the depth grows by 1:
    # (1 - share d d^T) / match error^2.
    by_depth = jacobian[:, 6]
    share = DEPTH_ERROR**2 / (PIXEL_ERROR**2 + DEPTH_ERROR**2 * (by_depth**2).sum(axis=0))
    along = (by_depth * residuals).sum(axis=0)
    squared = ((residuals**2).sum(axis=0) - share * along**2) / PIXEL_ERROR**2
    # Geman-McClure: a match that does not fit loses its say altogether.
    weights = in_front / (1 + squared / kernel**2) ** 2 / PIXEL_ERROR**2
    weighted = jacobian - by_depth[:, None] * (share * (by_depth[:, None] * jacobian).sum(axis=0))
    return jacobian, weighted * weights, residuals, squared
