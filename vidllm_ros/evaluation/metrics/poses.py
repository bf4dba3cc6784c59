"""Camera pose accuracy over all pairs of a set of views: RRA, RTA and AUC, the protocol of Co3Dv2 and RealEstate10K.

First used by PoseDiffusion (Wang et al., ICCV 2023); ``order="vggt"`` follows the script VGGT publishes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from vidllm_ros.evaluation.errors import EvaluationError

NOT_FINITE = 1e6  # degrees an undefined error counts as
_TINY = 1e-15


@dataclass(frozen=True, eq=False)
class PairErrors:
    """Errors of relative poses, one entry per unordered pair of views (i < j).

    Attributes:
        rotation: degrees [P], 0 to 180.
        translation: degrees [P] between the directions of the relative translations, the sign ignored, 0 to 90.
    """

    rotation: np.ndarray
    translation: np.ndarray


def relative_pose_errors(predicted: np.ndarray, truth: np.ndarray, order: str = "vggt") -> PairErrors:
    """Compare the relative poses of all pairs of views.

    A relative translation of zero on either side counts as 90 degrees, an undefined error as ``NOT_FINITE`` degrees.

    Args:
        predicted: world-to-camera [S, 4, 4] or [S, 3, 4].
        truth: the same for the truth; any world and, since only directions are compared, any scale.
        order: "vggt" relates i to j by ``T_i T_j^-1``, "posediffusion" by ``T_j T_i^-1``. The choice matters for the
            translation, not for the rotation.

    Raises:
        EvaluationError: shapes that differ, fewer than two views, or an unknown order.
    """
    if order not in ("vggt", "posediffusion"):
        raise EvaluationError(f"order {order!r} is unknown: use 'vggt' or 'posediffusion'.")
    predicted, truth = _square(predicted), _square(truth)
    if predicted.shape != truth.shape or len(predicted) < 2:
        raise EvaluationError(f"{len(predicted)} predicted and {len(truth)} true views: need equally many, at least 2.")
    i, j = np.triu_indices(len(predicted), k=1)
    if order == "posediffusion":
        i, j = j, i
    usable = np.isfinite(predicted).all((1, 2)) & np.isfinite(truth).all((1, 2))
    keep = usable[i] & usable[j]
    rotation, translation = np.full(len(i), NOT_FINITE), np.full(len(i), NOT_FINITE)
    if keep.any():
        relative_predicted = predicted[i[keep]] @ _inverse(predicted[j[keep]])
        relative_truth = truth[i[keep]] @ _inverse(truth[j[keep]])
        rotation[keep] = _rotation_error(relative_predicted[:, :3, :3], relative_truth[:, :3, :3])
        translation[keep] = _direction_error(relative_predicted[:, :3, 3], relative_truth[:, :3, 3])
    return PairErrors(rotation, translation)


def summary(errors: PairErrors | Iterable[PairErrors], thresholds: tuple[int, ...] = (5, 15, 30)) -> dict[str, float]:
    """Accuracies in percent, all pairs pooled.

    ``RRA@k`` and ``RTA@k`` are the shares of pairs with an error strictly below k degrees. ``AUC@k`` is the mean, over
    the k one-degree bins [0, 1), ..., [k-1, k], of the share of pairs whose larger error falls in that bin or
    one before.
    """
    sets = [errors] if isinstance(errors, PairErrors) else list(errors)
    if not sets or not sum(len(e.rotation) for e in sets):
        raise EvaluationError("no pair of views to summarise.")
    rotation = np.concatenate([e.rotation for e in sets])
    translation = np.concatenate([e.translation for e in sets])
    worse = np.maximum(rotation, translation)
    result = {"pairs": float(len(rotation))}
    for k in thresholds:
        histogram = np.histogram(worse, bins=np.arange(k + 1))[0] / len(worse)
        result[f"RRA@{k}"] = 100.0 * float(np.mean(rotation < k))
        result[f"RTA@{k}"] = 100.0 * float(np.mean(translation < k))
        result[f"AUC@{k}"] = 100.0 * float(np.mean(np.cumsum(histogram)))
    return result


def _rotation_error(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    alike = np.sum(Rotation.from_matrix(predicted).as_quat() * Rotation.from_matrix(truth).as_quat(), axis=1) ** 2
    return np.degrees(np.arccos(np.clip(1.0 - 2.0 * np.maximum(1.0 - alike, _TINY), -1.0, 1.0)))


def _direction_error(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    def direction(t: np.ndarray) -> np.ndarray:
        return t / (np.linalg.norm(t, axis=1, keepdims=True) + _TINY)

    cosine_squared = np.sum(direction(predicted) * direction(truth), axis=1) ** 2
    return np.degrees(np.arccos(np.sqrt(1.0 - np.maximum(1.0 - cosine_squared, _TINY))))


def _square(poses: np.ndarray) -> np.ndarray:
    poses = np.asarray(poses, dtype=np.float64)
    if poses.ndim != 3 or poses.shape[1:] not in ((3, 4), (4, 4)):
        raise EvaluationError(f"poses must be [S, 4, 4] or [S, 3, 4], got {poses.shape}.")
    square = np.tile(np.eye(4), (len(poses), 1, 1))
    square[:, :3] = poses[:, :3]
    return square


def _inverse(poses: np.ndarray) -> np.ndarray:
    inverse = np.tile(np.eye(4), (len(poses), 1, 1))
    inverse[:, :3, :3] = poses[:, :3, :3].transpose(0, 2, 1)
    inverse[:, :3, 3] = -np.einsum("kji,kj->ki", poses[:, :3, :3], poses[:, :3, 3])
    return inverse
