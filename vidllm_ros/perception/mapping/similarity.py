"""Robust similarity transform between two sets of matched points and camera orientations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.perception.geometry.transforms import nearest_rotation, rotation_angle

_ITERATIONS = 10
_HUBER = 1.345  # 95 % efficiency for normal noise
_MAD_TO_SIGMA = 1.4826
_ANGLE_FLOOR = np.radians(0.1)


@dataclass(frozen=True)
class Similarity:
    """``target = scale * rotation @ source + translation``.

    Attributes:
        scale: target metres per source metre.
        rotation: float64 [3, 3].
        translation: float64 [3] metres of the target.
        residual: median distance between matched points relative to their range.
        rotation_residual: median angle between matched orientations, radians.
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray
    residual: float
    rotation_residual: float


def mean_rotation(rotations: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Robust mean of rotations [K, 3, 3]: geodesic L1 by re-weighted chordal means (Hartley et al. 2013)."""
    base = np.ones(len(rotations)) if weights is None else weights
    mean = nearest_rotation((base[:, None, None] * rotations).sum(axis=0))
    for _ in range(_ITERATIONS):
        angles = rotation_angle(rotations @ mean.T)
        mean = nearest_rotation(((base / np.maximum(angles, _ANGLE_FLOOR))[:, None, None] * rotations).sum(axis=0))
    return mean


def fit_similarity(
    source: np.ndarray,
    target: np.ndarray,
    rotations: np.ndarray,
    weights: np.ndarray | None = None,
    ranges: np.ndarray | None = None,
    scale: float | None = None,
) -> Similarity:
    """Aligns matched points and matched camera orientations together.

    Iteratively re-weighted least squares with Huber weights on the point distances relative to their range, because the
    error of a depth grows with the depth. Each step is Umeyama's solution (1991) with two changes: the matched
    orientations stand in the rotation's correlation matrix beside the points with the same total weight, so that
    points in a plane or on a line cannot leave it undetermined; and the scale is Horn's symmetric one (1987), which
    noise in the source does not shrink.

    Args:
        source: float64 [N, 3].
        target: float64 [N, 3], matched with ``source``.
        rotations: float64 [K, 3, 3], what each camera shared by both sides says the rotation is; K >= 1.
        weights: float64 [N] trust in each pair; None for equal trust.
        ranges: float64 [N] metres, the length to which a pair's distance is compared; None for 1.
        scale: a scale to keep; None to estimate it.
    """
    trust = np.ones(len(source)) if weights is None else weights
    ranges = np.ones(len(source)) if ranges is None else ranges
    estimate_scale = scale is None
    rotation = mean_rotation(rotations)
    factor = _median_scale(source, target) if scale is None else scale
    translation = np.median(target - factor * source @ rotation.T, axis=0)
    for _ in range(_ITERATIONS):
        distances = np.linalg.norm(target - factor * source @ rotation.T - translation, axis=1) / ranges
        limit = max(_HUBER * _MAD_TO_SIGMA * float(np.median(distances)), 1e-9)
        w = trust / ranges**2 * np.minimum(1.0, limit / np.maximum(distances, 1e-12))
        w = w / w.sum()
        source_mean, target_mean = w @ source, w @ target
        p, q = source - source_mean, target - target_mean
        spread_p, spread_q = float(w @ (p**2).sum(axis=1)), float(w @ (q**2).sum(axis=1))
        lever = np.sqrt(spread_p * spread_q) or 1.0
        angles = rotation_angle(rotations @ rotation.T)
        votes = 1.0 / np.maximum(angles, _ANGLE_FLOOR)
        votes = votes / votes.sum()
        correlation = (w[:, None] * q).T @ p + lever * (votes[:, None, None] * rotations).sum(axis=0)
        rotation = nearest_rotation(correlation)
        if estimate_scale and spread_p > 0:
            factor = float(np.sqrt(spread_q / spread_p))
        translation = target_mean - factor * rotation @ source_mean
    distances = np.linalg.norm(target - factor * source @ rotation.T - translation, axis=1) / ranges
    return Similarity(
        scale=float(factor),
        rotation=rotation,
        translation=translation,
        residual=float(np.median(distances)),
        rotation_residual=float(np.median(rotation_angle(rotations @ rotation.T))),
    )


def _median_scale(source: np.ndarray, target: np.ndarray) -> float:
    """A robust first guess: ratio of the median distances from the median point."""
    lengths = [float(np.median(np.linalg.norm(x - np.median(x, axis=0), axis=1))) for x in (source, target)]
    return lengths[1] / lengths[0] if min(lengths) > 0 else 1.0
