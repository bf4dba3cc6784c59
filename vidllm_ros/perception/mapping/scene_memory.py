"""What was seen, as the language model will read it: semantic tokens averaged over the voxels of the map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidllm_ros.model import VidLLM
from vidllm_ros.model.reasoning.patches import back_project, patch_depth
from vidllm_ros.perception.geometry.transforms import compose, scale_translation
from vidllm_ros.perception.mapping.gravity import level_rotation, scene_pose
from vidllm_ros.perception.mapping.stitching import Placement

_MAX_VOXELS = 20_000


@dataclass(frozen=True, eq=False)
class Remembered:
    """What a ``SceneMemory`` holds at one moment.

    Attributes:
        sums: [V, C + 4] summed semantic features, positions in map and counts.
        seen: int64 [V] the update that last touched each voxel.
        T_map_scene: float64 [4, 4] of the first camera.
        stamps_ns: first and last acquisition time.
    """

    sums: Tensor
    seen: np.ndarray
    T_map_scene: np.ndarray
    stamps_ns: tuple[int, int]


class SceneMemory:
    """Semantic tokens of everything seen, averaged over voxels of the map.

    Positions enter a token's features only when a scene is made (Eq. 4), because they count from that scene's first
    camera. Bounded: beyond ``max_voxels`` those seen longest ago leave.

    Args:
        model: the network.
        max_voxels: the cap.
    """

    def __init__(self, model: VidLLM, max_voxels: int = _MAX_VOXELS) -> None:
        self._model = model
        self._max_voxels = max_voxels
        self._updates = 0
        self.held: Remembered | None = None  # replaced, never changed, so that other threads may read it

    def clear(self) -> None:
        """Forgets everything."""
        self.held = None

    def add(self, placement: Placement, start: int = 0) -> None:
        """Adds a placed window's frames from index ``start`` on."""
        stamps = placement.reconstruction.stamps_ns[start:]
        if not stamps or self._model.config.patches is None:  # a checkpoint that only reconstructs
            return
        depth, intrinsics, T_map_camera = placed_geometry(self._model, placement, np.eye(4), start)
        patch = self._model.config.patch_size
        with torch.inference_mode():
            distance = patch_depth(depth, patch)
            rows, columns = depth.shape[1] // patch, depth.shape[2] // patch
            points = back_project(distance, intrinsics, T_map_camera, rows, columns, patch)
            usable = (distance <= self._model.patches.config.max_range) & points.isfinite().all(dim=-1)
            points = points[usable]
            features = placement.reconstruction.semantic_tokens[start:][usable].float()
            sums = torch.cat([features, points, torch.ones_like(points[:, :1])], dim=1)
        self._updates += 1
        seen = np.full(len(points), self._updates)
        old = self.held
        if old is None:
            self.held = self._pool(sums, seen, scene_pose(placement.T_map_camera[start]), (stamps[0], stamps[-1]))
        else:
            sums, seen = torch.cat([old.sums, sums]), np.concatenate([old.seen, seen])
            self.held = self._pool(sums, seen, old.T_map_scene, (min(old.stamps_ns[0], stamps[0]), stamps[-1]))

    def move(self, rotation: np.ndarray, factor: float) -> None:
        """Turns by [3, 3] and stretches every position about the map's origin."""
        old = self.held
        if old is not None:
            sums = old.sums.clone()
            sums[:, -4:-1] = factor * sums[:, -4:-1] @ sums.new_tensor(rotation).T
            T_map_scene = scale_translation(compose(rotation, np.zeros(3)) @ old.T_map_scene, factor)
            upright = compose(level_rotation(T_map_scene[:3, 0]), T_map_scene[:3, 3])
            self.held = self._pool(sums, old.seen, upright, old.stamps_ns)

    def _pool(self, sums: Tensor, seen: np.ndarray, T_map_scene: np.ndarray, stamps_ns: tuple[int, int]) -> Remembered:
        voxel = self._model.patches.config.voxel_size
        with torch.inference_mode():
            cells = np.floor((sums[:, -4:-1] / sums[:, -1:]).cpu().numpy() / voxel).astype(np.int64)
            cells, slots = np.unique(cells, axis=0, return_inverse=True)
            slots = slots.reshape(-1)
            pooled = sums.new_zeros(len(cells), sums.shape[1])
            pooled = pooled.index_add(0, torch.from_numpy(slots).to(sums.device), sums)
        newest = np.zeros(len(cells), np.int64)
        np.maximum.at(newest, slots, seen)
        kept = np.sort(np.argsort(-newest, kind="stable")[: self._max_voxels])
        rows = pooled[torch.from_numpy(kept).to(sums.device)]
        return Remembered(rows, newest[kept], T_map_scene, stamps_ns)


def placed_geometry(
    model: VidLLM, placement: Placement, T_frame_map: np.ndarray, start: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """A window's depth in the map's metres, intrinsics and camera-to-frame poses, float32 beside the model.

    Args:
        model: for its device.
        placement: the window.
        T_frame_map: float64 [4, 4] map to the wanted frame.
        start: the first frame of the window that is wanted.
    """
    arrays = (
        placement.reconstruction.depth[start:] * placement.scale_ratio,
        placement.reconstruction.intrinsics[start:],
        T_frame_map @ placement.T_map_camera[start:],
    )
    depth, intrinsics, poses = (torch.as_tensor(array, dtype=torch.float32, device=model.device) for array in arrays)
    return depth, intrinsics, poses
