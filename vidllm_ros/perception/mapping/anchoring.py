"""Places a window by camera poses that something outside (TF, odometry) knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.geometry.transforms import compose, invert, is_rigid
from vidllm_ros.perception.mapping.similarity import fit_similarity
from vidllm_ros.perception.mapping.stitching import Placement, fit_problem
from vidllm_ros.perception.types import Reconstruction


@dataclass(frozen=True, eq=False)
class Anchor:
    """A window placed by outside poses.

    Attributes:
        placement: where it lies.
        external_scale: whether its metres were taken from the poses.
        problem: one sentence why it must not be placed; "" when it may.
    """

    placement: Placement
    external_scale: bool = False
    problem: str = ""


def check_poses(T_map_cameras: np.ndarray, count: int) -> np.ndarray:
    """Outside poses as [S, 4, 4], rows of NaN where unknown.

    Args:
        T_map_cameras: [4, 4] of the first frame, or [S, 4, 4].
        count: S.

    Raises:
        ValueError: the shape is another, no pose is known, or a known one is no rigid transform.
    """
    poses = np.asarray(T_map_cameras, dtype=np.float64)
    if poses.shape == (4, 4):
        poses = np.concatenate([poses[None], np.full((count - 1, 4, 4), np.nan)])
    if poses.shape != (count, 4, 4):
        raise ValueError(f"outside poses have shape {poses.shape}; expected (4, 4) or ({count}, 4, 4)")
    known = [pose for pose in poses if np.isfinite(pose).all()]
    if not known or not all(is_rigid(pose) for pose in known):
        raise ValueError("the outside poses hold no known pose, or one that is not a rotation and a translation")
    return poses


def place_by_poses(reconstruction: Reconstruction, T_map_cameras: np.ndarray, config: PerceptionConfig) -> Anchor:
    """Places a window by the outside poses of its cameras.

    With poses that span at least ``scale.min_anchor_motion`` all of them take part and the scale follows from them;
    with fewer, the first known one places the window and its own metres stay.

    Args:
        reconstruction: the window.
        T_map_cameras: [S, 4, 4], rows of NaN where unknown, at least one known.
        config: limits.
    """
    known = np.flatnonzero(np.isfinite(T_map_cameras).all(axis=(1, 2)))
    outside, inside = T_map_cameras[known], reconstruction.T_window_camera[known]
    first = Anchor(Placement(reconstruction, outside[0] @ invert(inside[0])))
    span = float(np.linalg.norm(outside[:, :3, 3] - outside[0, :3, 3], axis=1).max())
    if len(known) < 2 or span < config.scale.min_anchor_motion:
        return first
    rotations = outside[:, :3, :3] @ np.swapaxes(inside[:, :3, :3], -1, -2)
    fit = fit_similarity(inside[:, :3, 3], outside[:, :3, 3], rotations, ranges=np.full(len(known), span))
    problem = fit_problem(fit, config.stitch, "outside poses", "cameras")
    if problem:
        return Anchor(first.placement, problem=problem)
    return Anchor(Placement(reconstruction, compose(fit.rotation, fit.translation), fit.scale), external_scale=True)
