"""Which way is up: from outside, from vertical edges and the floor, or by assuming a level camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import open3d as o3d

from vidllm_ros.perception.config import CloudConfig, GravityConfig
from vidllm_ros.perception.geometry.transforms import compose
from vidllm_ros.perception.mapping.cloud import window_cloud
from vidllm_ros.perception.mapping.verticals import find_vertical
from vidllm_ros.perception.types import Frame, Reconstruction

CAMERA_UP = np.array([0.0, -1.0, 0.0])  # of an optical frame: y points down
_PLANES = 4  # how many dominant planes are looked at before giving up
_RANSAC_ITERATIONS = 500
_MAX_POINTS = 20_000
_MIN_POINTS = 100
_NEIGHBOURS = 30


_AGREE = np.cos(np.radians(6.0))  # within which a floor and the edges above it mean the same
# Standard deviations in degrees. Measured on windows of two real clips with true depth and cameras: edges 0.8 (0.1 to
# 1.2), floor 0.7; with a network's depth a floor is worse. A camera in the hand is tilted by anything.
_DEVIATIONS = {"tf": 0.5, "floor": 2.0, "vertical edges": 1.0, "assumed level": 20.0}


@dataclass(frozen=True, eq=False)
class Gravity:
    """The upward direction.

    Attributes:
        up: float64 [3] unit vector in the window frame.
        source: "tf", "floor", "vertical edges" or "assumed level".
        deviation: standard deviation of the direction, degrees.
    """

    up: np.ndarray
    source: str
    deviation: float


def find_gravity(
    reconstruction: Reconstruction,
    gravity: GravityConfig,
    cloud: CloudConfig,
    up_camera: np.ndarray | None = None,
    frames: Sequence[Frame] = (),
) -> Gravity:
    """The upward direction in the window frame.

    Edges go before the floor where they disagree, because they do not depend on the depth.

    Args:
        reconstruction: the window.
        gravity: limits of a believable floor.
        cloud: which points to believe.
        up_camera: [3] upward direction in the first camera's optical frame when something outside (TF) knows it.
        frames: the window's images; without them there are no edges.
    """
    if up_camera is not None and np.isfinite(up_camera).all() and np.linalg.norm(up_camera) > 1e-6:
        return _gravity(np.asarray(up_camera, np.float64), "tf")
    vertical = find_vertical(frames, reconstruction, gravity.max_tilt) if len(frames) else None
    # Pixels, not voxels: gross errors scatter over voxels of their own and would outnumber the surfaces.
    pixels = replace(cloud, voxel_size=0.0, max_points=_MAX_POINTS)
    points = window_cloud(reconstruction, np.eye(4), 1.0, pixels).points.astype(np.float64)
    floor = _find_floor(points, reconstruction.T_window_camera, gravity)
    if floor is not None and (vertical is None or vertical.up @ floor >= _AGREE):
        return _gravity(floor, "floor") if vertical is None else _gravity(vertical.up, "floor", "vertical edges")
    return _gravity(CAMERA_UP, "assumed level") if vertical is None else _gravity(vertical.up, "vertical edges")


def _gravity(up: np.ndarray, source: str, better: str = "") -> Gravity:
    return Gravity(up / np.linalg.norm(up), source, _DEVIATIONS[better or source])


def level_pose(up: np.ndarray) -> np.ndarray:
    """T_map_window [4, 4] of a window that starts the map, given the upward direction in its frame.

    Map has z up, its origin at the first camera's centre and x along that camera's horizontal viewing direction; of a
    camera that looks straight down or up, along the upper edge of its image.
    """
    z = up / np.linalg.norm(up)
    forward = _horizontal(np.array([0.0, 0.0, 1.0]), z)
    if np.linalg.norm(forward) < 1e-3:
        forward = _horizontal(CAMERA_UP, z)
    x = forward / np.linalg.norm(forward)
    return compose(np.stack([x, np.cross(z, x), z]), np.zeros(3))


def level_rotation(forward: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] of a frame in map whose z is up and whose x is the horizontal part of ``forward``."""
    up = np.array([0.0, 0.0, 1.0])
    x = _horizontal(forward, up)
    x = x / np.linalg.norm(x) if np.linalg.norm(x) > 1e-6 else np.array([1.0, 0.0, 0.0])
    return np.stack([x, np.cross(up, x), up], axis=1)


def scene_pose(T_map_camera: np.ndarray) -> np.ndarray:
    """T_map_scene [4, 4] of the scene frame of a camera [4, 4]: z up, x along its horizontal view, y left."""
    T_scene_camera = level_pose(T_map_camera[:3, :3].T @ np.array([0.0, 0.0, 1.0]))
    return compose(T_map_camera[:3, :3] @ T_scene_camera[:3, :3].T, T_map_camera[:3, 3])


def _horizontal(direction: np.ndarray, up: np.ndarray) -> np.ndarray:
    return direction - (direction @ up) * up


def _find_floor(points: np.ndarray, cameras: np.ndarray, config: GravityConfig) -> np.ndarray | None:
    """The upward normal of the floor, or None when no dominant plane passes every check."""
    prior = (cameras[:, :3, :3] @ CAMERA_UP).mean(axis=0)
    if len(points) < _MIN_POINTS or np.linalg.norm(prior) < 1e-3:
        return None
    prior /= np.linalg.norm(prior)
    rest = points[_faces(points, prior, config.max_tilt)]
    for _ in range(_PLANES):
        if len(rest) < max(_MIN_POINTS, config.min_floor_share * len(points)):
            return None
        inliers = _dominant_plane(rest, config.floor_distance)
        normal, offset = _fit_plane(rest[inliers], prior)
        if _is_floor(normal, offset, points, cameras, prior, config):
            return normal
        rest = np.delete(rest, inliers, axis=0)
    return None


def _faces(points: np.ndarray, direction: np.ndarray, max_angle: float) -> np.ndarray:
    """Which points lie on a surface that faces ``direction`` within ``max_angle`` degrees; walls outnumber floors."""
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(_NEIGHBOURS))
    return np.abs(np.asarray(cloud.normals) @ direction) >= np.cos(np.radians(max_angle))


def _dominant_plane(points: np.ndarray, distance: float) -> np.ndarray:
    """Indices of the points on the plane that RANSAC finds; the same for the same points."""
    o3d.utility.random.seed(0)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    _, inliers = cloud.segment_plane(distance, ransac_n=3, num_iterations=_RANSAC_ITERATIONS)
    return np.asarray(inliers)


def _fit_plane(points: np.ndarray, towards: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares plane ``normal @ x + offset = 0``, its normal turned to the side of ``towards``."""
    mean = points.mean(axis=0)
    normal = np.linalg.svd((points - mean).T @ (points - mean))[0][:, 2]
    normal = normal if normal @ towards >= 0 else -normal
    return normal, float(-normal @ mean)


def _is_floor(
    normal: np.ndarray, offset: float, points: np.ndarray, cameras: np.ndarray, prior: np.ndarray, config: GravityConfig
) -> bool:
    heights = points @ normal + offset
    share = float((np.abs(heights) <= config.floor_distance).mean())
    below = float((heights < -2 * config.floor_distance).mean())
    return bool(
        normal @ prior >= np.cos(np.radians(config.max_tilt))
        and share >= config.min_floor_share
        and below <= config.max_below_share
        and (cameras[:, :3, 3] @ normal + offset).min() >= config.min_camera_height
    )
