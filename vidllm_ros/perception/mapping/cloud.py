"""Depth to coloured points: un-projection, confidence filter, voxel down-sampling."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from vidllm_ros.perception.config import CloudConfig
from vidllm_ros.perception.mapping.voxels import sums_by_key, voxel_cells, voxel_keys
from vidllm_ros.perception.types import Reconstruction

_MAX_PIXELS = 3_000_000  # a window of 32 large images has more; voxels average them anyway


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Coloured points.

    Attributes:
        points: float32 [P, 3] metres.
        colors: uint8 [P, 3] RGB.
        confidence: float32 [P] from 0 to 1.
    """

    points: np.ndarray
    colors: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.points)


def empty_cloud() -> PointCloud:
    """A cloud without points."""
    return PointCloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32))


def unproject(
    depth: np.ndarray,
    intrinsics: np.ndarray,
    T_frame_camera: np.ndarray,
    pixels: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Points seen at some pixels (Eq. 3 of the paper): ``R (K^-1 [u, v, 1] d) + t``.

    Pixels are counted from 0 at the centre of the first one.

    Args:
        depth: [S, H, W] metres along the optical axis.
        intrinsics: [S, 3, 3] pixels.
        T_frame_camera: [S, 4, 4] camera-to-frame poses, metres.
        pixels: indices (image, row, column), each [P], images ascending as ``np.nonzero`` gives them.

    Returns:
        float64 [P, 3] metres.
    """
    image, v, u = pixels
    points = np.empty((len(image), 3))
    starts = np.searchsorted(image, np.arange(len(depth) + 1))
    for index, (start, end) in enumerate(itertools.pairwise(starts)):
        rows, columns = v[start:end], u[start:end]
        rays = np.stack([columns, rows, np.ones(end - start)], axis=-1) @ np.linalg.inv(intrinsics[index]).T
        local = rays * depth[index, rows, columns][:, None]
        points[start:end] = local @ T_frame_camera[index, :3, :3].T + T_frame_camera[index, :3, 3]
    return points


def window_cloud(
    reconstruction: Reconstruction, T_map_window: np.ndarray, scale_ratio: float, config: CloudConfig
) -> PointCloud:
    """The points of a window in map: confident, within range, voxel means, at most ``config.max_points``."""
    depth = reconstruction.depth * np.float32(scale_ratio)
    keep = (reconstruction.confidence >= config.min_confidence) & (reconstruction.confidence > 0)
    image, v, u = _at_most(np.nonzero(keep & (depth > 0) & (depth <= config.max_range)), _MAX_PIXELS)
    pixels = (image, v, u)
    poses = reconstruction.T_window_camera.copy()
    poses[:, :3, 3] *= scale_ratio
    points = unproject(depth, reconstruction.intrinsics, T_map_window @ poses, pixels)
    cloud = PointCloud(points.astype(np.float32), reconstruction.rgb[pixels], reconstruction.confidence[pixels])
    return cap(downsample(cloud, config.voxel_size), config.max_points)


def downsample(cloud: PointCloud, voxel_size: float) -> PointCloud:
    """Means of points, colours and confidence in voxels of ``voxel_size`` metres; 0 for none."""
    if voxel_size <= 0 or len(cloud) == 0:
        return cloud
    cells = voxel_cells(cloud.points, voxel_size)
    columns = (*cloud.points.T, *cloud.colors.T, cloud.confidence, np.ones(len(cloud)))
    # Counted from the cloud's own corner, because a map's origin may be far away.
    _, sums = sums_by_key(voxel_keys(cells - cells.min(axis=0)), columns)
    means = sums[:, :7] / sums[:, 7:]
    colors = np.rint(means[:, 3:6]).astype(np.uint8)
    return PointCloud(means[:, :3].astype(np.float32), colors, means[:, 6].astype(np.float32))


def cap(cloud: PointCloud, max_points: int) -> PointCloud:
    """At most ``max_points`` points, taken evenly so that no region is favoured."""
    if len(cloud) <= max_points:
        return cloud
    points, colors, confidence = _at_most((cloud.points, cloud.colors, cloud.confidence), max_points)
    return PointCloud(points, colors, confidence)


def _at_most(arrays: tuple[np.ndarray, ...], count: int) -> tuple[np.ndarray, ...]:
    """``arrays`` of one length, or ``count`` of their rows spread evenly."""
    length = len(arrays[0])
    if length <= count:
        return arrays
    chosen = np.linspace(0, length - 1, count).astype(int)
    return tuple(array[chosen] for array in arrays)
