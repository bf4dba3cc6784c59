"""How the error of a trajectory grows: with time, and with the distance the camera has gone."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidllm_ros.evaluation.metrics.trajectory import ate, rotation_angle

LENGTHS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # metres of the way


@dataclass(frozen=True, eq=False)
class PathErrors:
    """Errors of associated poses after an SE(3) alignment.

    Attributes:
        stamps_ns: int64 [K].
        travelled: metres [K] the camera has truly gone.
        position: metres [K] between the aligned and the true position.
        rotation: degrees [K] between the aligned and the true orientation.
        predicted: aligned positions [K, 3], metres in the true world.
        truth: true positions [K, 3].
    """

    stamps_ns: np.ndarray
    travelled: np.ndarray
    position: np.ndarray
    rotation: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class LengthError:
    """Relative error over stretches of one length, as the KITTI odometry benchmark reports it.

    Attributes:
        length: metres of the true way.
        stretches: how many were compared.
        translation: mean error of the relative position, metres.
        rotation: mean error of the relative orientation, degrees.
    """

    length: float
    stretches: int
    translation: float
    rotation: float


def path_errors(stamps_ns: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> PathErrors:
    """Errors pose by pose.

    Args:
        stamps_ns: int64 [K].
        predicted: ``T_world_camera`` [K, 4, 4], associated with ``truth``.
        truth: [K, 4, 4].

    Raises:
        EvaluationError: as ``trajectory.ate``.
    """
    errors = ate(predicted, truth, "se3")
    aligned = errors.alignment.poses(predicted)
    turned = np.swapaxes(truth[:, :3, :3], 1, 2) @ aligned[:, :3, :3]
    return PathErrors(
        stamps_ns=np.asarray(stamps_ns, dtype=np.int64),
        travelled=_travelled(truth),
        position=errors.values,
        rotation=rotation_angle(turned),
        predicted=aligned[:, :3, 3],
        truth=np.array(truth[:, :3, 3]),
    )


def errors_by_length(
    predicted: np.ndarray, truth: np.ndarray, lengths: tuple[float, ...] = LENGTHS
) -> tuple[LengthError, ...]:
    """Relative errors over stretches of growing length (Geiger et al., CVPR 2012); lengths never gone are left out.

    From each pose the stretch ends at the first pose at least so many metres of way further on.

    Args:
        predicted: ``T_world_camera`` [K, 4, 4], associated with ``truth``.
        truth: [K, 4, 4].
        lengths: metres.
    """
    travelled = _travelled(truth)
    rows = []
    for length in lengths:
        ends = np.searchsorted(travelled, travelled + length - 1e-9)
        starts = np.flatnonzero(ends < len(travelled))
        if not len(starts):
            break
        ends = ends[starts]
        moved = np.linalg.inv(predicted[starts]) @ predicted[ends]
        error = np.linalg.inv(np.linalg.inv(truth[starts]) @ truth[ends]) @ moved
        translation = np.linalg.norm(error[:, :3, 3], axis=1)
        rows.append(
            LengthError(length, len(starts), float(translation.mean()), float(rotation_angle(error[:, :3, :3]).mean()))
        )
    return tuple(rows)


def write_path_errors(path: Path, errors: PathErrors) -> None:
    """Write one line per pose: stamp in ns, seconds, metres gone, error in metres and degrees."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["stamp_ns", "seconds", "travelled_m", "position_error_m", "rotation_error_deg"])
        seconds = (errors.stamps_ns - errors.stamps_ns[0]) / 1e9
        columns = (errors.stamps_ns, seconds, errors.travelled, errors.position, errors.rotation)
        for stamp, *values in zip(*columns, strict=True):
            writer.writerow([int(stamp), *(f"{value:.6f}" for value in values)])


def _travelled(poses: np.ndarray) -> np.ndarray:
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])
