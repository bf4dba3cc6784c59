"""The true cloud of a place: read from a file, or lifted from true depth along true poses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vidllm_ros.evaluation.errors import EvaluationError
from vidllm_ros.evaluation.metrics.reconstruction import voxel_means
from vidllm_ros.evaluation.metrics.trajectory import associate

VOXEL = 0.02  # metres; what the metric reduces clouds to anyway
MAX_FRAMES = 200  # spread over the recording; more hardly add a voxel
MAX_DEPTH = 10.0  # metres; sensors know little beyond
_STRIDE = 2  # pixels


def read_cloud(path: str | Path) -> np.ndarray:
    """Vertices of a mesh or points of a cloud file (PLY, PCD, OBJ, ...), float64 [N, 3] metres.

    Raises:
        EvaluationError: no such file, or one without points.
    """
    import open3d  # takes a second to import

    path = Path(path)
    if not path.is_file():
        raise EvaluationError(f"there is no cloud at {path}.")
    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        points = np.asarray(open3d.io.read_point_cloud(str(path)).points)
    if not len(points):
        raise EvaluationError(f"{path} holds no points that can be read: use a PLY file with vertices in metres.")
    return points[np.isfinite(points).all(axis=1)]


def lift(depth: np.ndarray, intrinsics: np.ndarray, T_world_camera: np.ndarray) -> np.ndarray:
    """Points of a depth image.

    Args:
        depth: [H, W] metres along the optical axis; 0 or not finite where unknown.
        intrinsics: [3, 3] of this image, pixels.
        T_world_camera: [4, 4].

    Returns:
        float64 [N, 3] metres in world.
    """
    v, u = np.nonzero(np.isfinite(depth) & (depth > 0) & (depth < MAX_DEPTH))
    rays = np.stack([u, v, np.ones_like(u)], axis=1) @ np.linalg.inv(intrinsics).T
    return (rays * depth[v, u][:, None]) @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]


def from_depth(
    depth: Mapping[int, Callable[[], np.ndarray]],
    intrinsics: np.ndarray,
    stamps_ns: np.ndarray,
    T_world_camera: np.ndarray,
) -> np.ndarray:
    """One cloud of all depth images whose pose is known, one point per voxel of 2 cm.

    Args:
        depth: by stamp, what loads the image, [H, W] metres.
        intrinsics: [3, 3] of these images.
        stamps_ns: int64 [M] of the poses.
        T_world_camera: [M, 4, 4].

    Returns:
        float64 [N, 3] metres in world; N may be 0.
    """
    stamps = np.array(sorted(depth), dtype=np.int64)
    images, poses = associate(stamps, stamps_ns)
    chosen = np.unique(np.linspace(0, len(images) - 1, MAX_FRAMES).astype(int)) if len(images) else []
    parts = []
    for k in chosen:
        image = np.array(depth[int(stamps[images[k]])](), dtype=np.float64)
        thinned = np.zeros_like(image)
        thinned[::_STRIDE, ::_STRIDE] = image[::_STRIDE, ::_STRIDE]
        points = lift(thinned, intrinsics, T_world_camera[poses[k]])
        if len(points):
            parts.append(voxel_means(points, VOXEL))
    return voxel_means(np.concatenate(parts), VOXEL) if parts else np.zeros((0, 3))
