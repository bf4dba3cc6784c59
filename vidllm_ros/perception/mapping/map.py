"""What is kept of the windows that were placed: voxels, path, and the windows themselves."""

from __future__ import annotations

from collections import deque

import numpy as np

from vidllm_ros.perception.config import MapConfig
from vidllm_ros.perception.geometry.transforms import compose, scale_translation
from vidllm_ros.perception.mapping.cloud import PointCloud, empty_cloud
from vidllm_ros.perception.mapping.stitching import Placement
from vidllm_ros.perception.mapping.voxels import CELLS, sums_by_key, voxel_cells, voxel_keys

_ORIGIN = CELLS // 2  # where the map's origin lies among the cells


class VoxelMap:
    """Coloured points accumulated in voxels; each voxel holds the confidence-weighted mean of what fell into it.

    Bounded: beyond ``max_points`` voxels those seen longest ago leave.

    Args:
        config: voxel size and cap.
    """

    def __init__(self, config: MapConfig) -> None:
        self._config = config
        self._updates = 0
        self._keys: np.ndarray
        self._sums: np.ndarray
        self._seen: np.ndarray
        self.clear()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, cloud: PointCloud) -> None:
        """Adds a cloud in map coordinates."""
        cells = voxel_cells(cloud.points, self._config.voxel_size)
        inside = (np.abs(cells) < _ORIGIN).all(axis=1)
        confidence = cloud.confidence[inside].astype(np.float64)
        weight = np.maximum(confidence, 1e-3)
        values = (*cloud.points[inside].T, *cloud.colors[inside].T, confidence)
        self._updates += 1
        columns = (*(weight * column for column in values), weight)
        self._merge(*sums_by_key(voxel_keys(cells[inside] + _ORIGIN), columns))

    def cloud(self) -> PointCloud:
        """All voxels as points in map."""
        if not len(self):
            return empty_cloud()
        means = self._sums[:, :7] / self._sums[:, 7:]
        colors = np.clip(np.rint(means[:, 3:6]), 0, 255).astype(np.uint8)
        return PointCloud(means[:, :3].astype(np.float32), colors, means[:, 6].astype(np.float32))

    def move(self, rotation: np.ndarray, factor: float) -> None:
        """Turns by [3, 3] and stretches about the map's origin; weights and ages stay."""
        sums, seen = self._sums.copy(), self._seen
        sums[:, :3] = factor * sums[:, :3] @ rotation.T
        cells = voxel_cells(sums[:, :3] / sums[:, 7:], self._config.voxel_size)
        inside = (np.abs(cells) < _ORIGIN).all(axis=1)
        keys = voxel_keys(cells[inside] + _ORIGIN)
        self._keys, self._sums = sums_by_key(keys, tuple(sums[inside].T))
        self._seen = np.zeros(len(self._keys), np.int64)
        np.maximum.at(self._seen, np.searchsorted(self._keys, keys), seen[inside])

    def clear(self) -> None:
        """Forgets everything."""
        self._keys = np.zeros(0, np.int64)  # ascending
        self._sums = np.zeros((0, 8))  # weight * (x, y, z, r, g, b, confidence), weight
        self._seen = np.zeros(0, np.int64)  # the update that last touched each voxel

    def resize(self, config: MapConfig) -> None:
        """Takes another voxel size and cap."""
        changed = config.voxel_size != self._config.voxel_size
        self._config = config
        if changed:
            self.move(np.eye(3), 1.0)

    def _merge(self, fresh: np.ndarray, sums: np.ndarray) -> None:
        place = np.searchsorted(self._keys, fresh)
        known = place < len(self._keys)
        known[known] = self._keys[place[known]] == fresh[known]
        self._sums[place[known]] += sums[known]
        self._seen[place[known]] = self._updates
        new = ~known
        self._keys = np.insert(self._keys, place[new], fresh[new])
        self._sums = np.insert(self._sums, place[new], sums[new], axis=0)
        self._seen = np.insert(self._seen, place[new], self._updates)
        if len(self._keys) > self._config.max_points:
            kept = np.sort(np.argsort(-self._seen, kind="stable")[: self._config.max_points])
            self._keys, self._sums, self._seen = self._keys[kept], self._sums[kept], self._seen[kept]


class CameraPath:
    """Camera poses in map by time, each frame once; the oldest leave beyond ``max_poses``."""

    def __init__(self, max_poses: int) -> None:
        self._poses: deque[tuple[int, np.ndarray]] = deque(maxlen=max_poses)

    def __len__(self) -> int:
        return len(self._poses)

    def add(self, placement: Placement, start: int = 0) -> None:
        """Adds the poses of a window's frames from index ``start`` on; they replace what it held from then on."""
        stamps = placement.reconstruction.stamps_ns[start:]
        while stamps and self._poses and self._poses[-1][0] >= stamps[0]:
            self._poses.pop()
        self._poses.extend(zip(stamps, placement.T_map_camera[start:], strict=True))

    def poses(self) -> tuple[np.ndarray, np.ndarray]:
        """Stamps int64 [K] in nanoseconds and poses float64 [K, 4, 4]."""
        stamps = np.array([stamp for stamp, _ in self._poses], np.int64)
        return stamps, np.array([pose for _, pose in self._poses]).reshape(-1, 4, 4)

    def resize(self, max_poses: int) -> None:
        """Takes another cap."""
        self._poses = deque(self._poses, maxlen=max_poses)

    def move(self, rotation: np.ndarray, factor: float) -> None:
        """Turns by [3, 3] and stretches about the map's origin."""
        turn = compose(rotation, np.zeros(3))
        moved = [(stamp, scale_translation(turn @ pose, factor)) for stamp, pose in self._poses]
        self._poses.clear()
        self._poses.extend(moved)

    def clear(self) -> None:
        """Forgets everything."""
        self._poses.clear()
