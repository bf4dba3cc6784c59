"""Trajectory errors: absolute (ATE) and relative (RPE), with none, SE(3) or Sim(3) alignment.

Poses are camera-to-world ``T_world_camera`` [K, 4, 4] float64 with translations in metres. Association, alignment and
pair selection follow evo (Grupp, "evo: Python package for the evaluation of odometry and SLAM"), which agrees with the
TUM RGB-D tools (Sturm et al., IROS 2012) on the ATE when both see the same pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError

_DEGENERATE = 1e-13  # of the largest singular value; rounding noise lies below


class Alignment(str, Enum):
    """How a predicted trajectory is laid over the truth before it is compared."""

    NONE = "none"
    SE3 = "se3"  # rotation and translation: asks for metric scale
    SIM3 = "sim3"  # and one scale: forgives the scale


@dataclass(frozen=True, eq=False)
class Similarity:
    """The map ``x -> scale * rotation @ x + translation``.

    Attributes:
        rotation: [3, 3].
        translation: [3] metres.
        scale: metres of the truth per metre of the prediction.
    """

    rotation: np.ndarray
    translation: np.ndarray
    scale: float = 1.0

    def points(self, points: np.ndarray) -> np.ndarray:
        """Move points [..., 3]."""
        return self.scale * np.asarray(points) @ self.rotation.T + self.translation

    def inverse(self) -> Similarity:
        """The way back."""
        rotation = self.rotation.T
        return Similarity(rotation, -rotation @ self.translation / self.scale, 1.0 / self.scale)

    def poses(self, T_world_camera: np.ndarray) -> np.ndarray:
        """Move poses [K, 4, 4]; the result stays rigid, only positions feel the scale."""
        moved = np.array(T_world_camera, dtype=np.float64)
        moved[:, :3, :3] = self.rotation @ moved[:, :3, :3]
        moved[:, :3, 3] = self.points(moved[:, :3, 3])
        return moved


@dataclass(frozen=True, eq=False)
class Errors:
    """One error per pose or pair with the usual statistics.

    Attributes:
        values: [N] in the unit its holder names.
    """

    values: np.ndarray

    @property
    def rmse(self) -> float:
        """Root mean square."""
        return float(np.sqrt(np.mean(self.values**2)))

    @property
    def mean(self) -> float:
        """Mean."""
        return float(np.mean(self.values))

    @property
    def median(self) -> float:
        """Median."""
        return float(np.median(self.values))

    @property
    def std(self) -> float:
        """Standard deviation, of the population."""
        return float(np.std(self.values))

    @property
    def max(self) -> float:
        """Largest."""
        return float(np.max(self.values))

    def statistics(self) -> dict[str, float]:
        """All of them by name."""
        return {name: getattr(self, name) for name in ("rmse", "mean", "median", "std", "max")}


@dataclass(frozen=True, eq=False)
class AbsoluteErrors(Errors):
    """Absolute trajectory error: ``values`` [K] metres between associated positions.

    Attributes:
        alignment: the similarity that was applied to the prediction.
    """

    alignment: Similarity


@dataclass(frozen=True, eq=False)
class RelativeErrors:
    """Relative pose error.

    Attributes:
        translation: metres, one per pair.
        rotation: degrees, one per pair.
    """

    translation: Errors
    rotation: Errors


def associate(
    predicted_stamps: np.ndarray, truth_stamps: np.ndarray, max_difference: float = 0.01, offset: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Pair two lists of stamps as evo does.

    Each stamp of the shorter list takes the nearest of the longer one, which may serve more than once; pairs further
    apart than ``max_difference`` are left out.

    Args:
        predicted_stamps: integer nanoseconds [K].
        truth_stamps: integer nanoseconds [M].
        max_difference: seconds, inclusive.
        offset: seconds added to the truth's stamps.

    Returns:
        Indices into the prediction and into the truth, of equal length.
    """
    predicted = np.asarray(predicted_stamps, dtype=np.int64)
    truth = np.asarray(truth_stamps, dtype=np.int64) + round(offset * 1e9)
    if len(predicted) == 0 or len(truth) == 0:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    truth_is_longer = len(truth) > len(predicted)
    short, long = (predicted, truth) if truth_is_longer else (truth, predicted)
    order = np.argsort(long, kind="stable")
    right = np.searchsorted(long, short, sorter=order).clip(1, len(long) - 1) if len(long) > 1 else np.zeros_like(short)
    candidates = order[np.stack([np.maximum(right - 1, 0), right])]
    distance = np.abs(long[candidates] - short)
    nearest = candidates[np.argmin(distance, axis=0), np.arange(len(short))]
    kept = np.flatnonzero(distance.min(axis=0) <= max_difference * 1e9)
    return (kept, nearest[kept]) if truth_is_longer else (nearest[kept], kept)


def umeyama(source: np.ndarray, target: np.ndarray, with_scale: bool = False) -> Similarity:
    """Least-squares similarity from ``source`` to ``target`` (Umeyama, PAMI 1991, Eq. 34-43).

    Args:
        source: points [K, 3].
        target: points [K, 3].
        with_scale: also estimate one scale; otherwise it is 1 (Kabsch).

    Raises:
        EvaluationError: fewer than three points, or all of them on one line, which leave the rotation undetermined.
    """
    source, target = _same_shape(source, target)
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    covariance = (target - mean_target).T @ (source - mean_source) / len(source)
    u, d, vt = np.linalg.svd(covariance)
    if np.count_nonzero(d > _DEGENERATE * d[0]) < 2:
        raise EvaluationError(
            f"{len(source)} positions that lie on one line or in one place cannot be aligned: at least three positions "
            "off one line are needed. Use alignment 'none', or a longer trajectory."
        )
    signs = np.array([1.0, 1.0, np.linalg.det(u) * np.linalg.det(vt)]).round()
    rotation = u @ np.diag(signs) @ vt
    variance = np.mean(np.sum((source - mean_source) ** 2, axis=1))
    scale = float(d @ signs / variance) if with_scale else 1.0
    return Similarity(rotation, mean_target - scale * rotation @ mean_source, scale)


def align(predicted: np.ndarray, truth: np.ndarray, alignment: Alignment | str) -> Similarity:
    """The similarity that lays associated ``predicted`` [K, 4, 4] over ``truth`` [K, 4, 4]."""
    if (alignment := Alignment(alignment)) is Alignment.NONE:
        return Similarity(np.eye(3), np.zeros(3))
    return umeyama(predicted[:, :3, 3], truth[:, :3, 3], with_scale=alignment is Alignment.SIM3)


def align_level(predicted: np.ndarray, truth: np.ndarray) -> Similarity:
    """The turn about z and the shift that lay associated ``predicted`` [K, 4, 4] over ``truth`` [K, 4, 4].

    For two worlds that are both z up: boxes stay upright, and a vertical or a scale that is wrong stays visible. The
    turn comes from the orientations, so that it is defined for a camera that only turns.
    """
    predicted, truth = _same_shape(predicted, truth)
    turn = np.sum(truth[:, :3, :3] @ predicted[:, :3, :3].transpose(0, 2, 1), axis=0)
    yaw = np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])
    rotation = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    return Similarity(rotation, np.mean(truth[:, :3, 3] - predicted[:, :3, 3] @ rotation.T, axis=0))


def ate(predicted: np.ndarray, truth: np.ndarray, alignment: Alignment | str = Alignment.SE3) -> AbsoluteErrors:
    """Absolute trajectory error of associated poses.

    Args:
        predicted: ``T_world_camera`` [K, 4, 4].
        truth: ``T_world_camera`` [K, 4, 4], pose k belonging to pose k of the prediction (see ``associate``).
        alignment: "none", "se3" or "sim3".

    Raises:
        EvaluationError: no poses, shapes that differ, values that are not finite, or a degenerate alignment.
    """
    predicted, truth = _same_shape(predicted, truth)
    similarity = align(predicted, truth, alignment)
    residual = similarity.points(predicted[:, :3, 3]) - truth[:, :3, 3]
    return AbsoluteErrors(np.linalg.norm(residual, axis=1), similarity)


def rpe(
    predicted: np.ndarray,
    truth: np.ndarray,
    alignment: Alignment | str = Alignment.NONE,
    delta: int = 1,
    all_pairs: bool = False,
) -> RelativeErrors:
    """Relative pose error over pairs ``delta`` frames apart: E = (Q_i^-1 Q_j)^-1 (P_i^-1 P_j).

    Args:
        predicted: ``T_world_camera`` [K, 4, 4].
        truth: ``T_world_camera`` [K, 4, 4], associated.
        alignment: only a Sim(3) changes the result, by its scale.
        delta: frames.
        all_pairs: every start instead of consecutive pairs that do not overlap.

    Raises:
        EvaluationError: as ``ate``, or no pair is ``delta`` frames apart.
    """
    predicted, truth = _same_shape(predicted, truth)
    if delta < 1 or len(predicted) <= delta:
        raise EvaluationError(f"delta = {delta} frames gives no pair among {len(predicted)} poses: use 1 to K - 1.")
    predicted = align(predicted, truth, alignment).poses(predicted)
    starts = np.arange(0, len(predicted) - delta, 1 if all_pairs else delta)
    moved = np.linalg.inv(predicted[starts]) @ predicted[starts + delta]
    should = np.linalg.inv(truth[starts]) @ truth[starts + delta]
    error = np.linalg.inv(should) @ moved
    return RelativeErrors(Errors(np.linalg.norm(error[:, :3, 3], axis=1)), Errors(rotation_angle(error[:, :3, :3])))


def rotation_angle(rotation: np.ndarray) -> np.ndarray:
    """Angle of rotations [..., 3, 3] in degrees, accurate near 0 and 180 where the arc cosine of the trace is not."""
    twice_sine = np.linalg.norm(
        np.stack(
            [
                rotation[..., 2, 1] - rotation[..., 1, 2],
                rotation[..., 0, 2] - rotation[..., 2, 0],
                rotation[..., 1, 0] - rotation[..., 0, 1],
            ]
        ),
        axis=0,
    )
    return np.degrees(np.arctan2(twice_sine, np.trace(rotation, axis1=-2, axis2=-1) - 1.0))


def _same_shape(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.shape != truth.shape or len(predicted) == 0:
        raise EvaluationError(
            f"{predicted.shape} predicted and {truth.shape} true values: both lists need the same length, at least 1. "
            "Associate them by stamp first."
        )
    if bad := int(np.count_nonzero(~np.isfinite(predicted)) + np.count_nonzero(~np.isfinite(truth))):
        raise EvaluationError(f"{bad} values of the trajectories are not finite: leave those poses out.")
    return predicted, truth
