"""What the language model reads: one window, or everything seen."""

from __future__ import annotations

import numpy as np
import torch

from vidllm_ros.model import VidLLM
from vidllm_ros.model.outputs import Box3D, SceneTokens
from vidllm_ros.perception.geometry.transforms import invert
from vidllm_ros.perception.mapping.gravity import scene_pose
from vidllm_ros.perception.mapping.scene_memory import Remembered, placed_geometry
from vidllm_ros.perception.mapping.stitching import Placement
from vidllm_ros.perception.types import Scene


def window_scene(model: VidLLM, placement: Placement, window_id: int) -> Scene:
    """The scene of one placed window, in the map's metres and pooled to the model's token budget."""
    T_map_scene = scene_pose(placement.T_map_camera[0])
    depth, intrinsics, T_scene_camera = placed_geometry(model, placement, invert(T_map_scene))
    with torch.inference_mode():
        tokens = model.patches.lift(
            placement.reconstruction.semantic_tokens, depth, intrinsics, T_scene_camera, model.config.patch_size
        )
        tokens = model.patches.pool(tokens)
    stamps = placement.reconstruction.stamps_ns
    return Scene(tokens, T_map_scene, window_id, (stamps[0], stamps[-1]))


def remembered_scene(model: VidLLM, held: Remembered) -> Scene:
    """Everything seen, pooled to the model's token budget; the scene frame is that of the first camera of the map."""
    with torch.inference_mode():
        means = held.sums[:, :-1] / held.sums[:, -1:]
        T_scene_map = torch.as_tensor(invert(held.T_map_scene), dtype=means.dtype, device=means.device)
        positions = means[:, -3:] @ T_scene_map[:3, :3].T + T_scene_map[:3, 3]
        dtype = next(model.parameters()).dtype
        features = means[:, :-3].to(dtype) + model.patches.position(positions).to(dtype)
        tokens = model.patches.pool(SceneTokens(features=features, positions=positions))
    return Scene(tokens, held.T_map_scene, None, held.stamps_ns)


def box_to_map(box: Box3D, T_map_scene: np.ndarray) -> Box3D:
    """A box of the scene frame in map."""
    rotation = T_map_scene[:3, :3]
    return Box3D(
        center=rotation @ np.asarray(box.center, np.float64) + T_map_scene[:3, 3],
        size=np.asarray(box.size, np.float64),
        rotation=rotation @ np.asarray(box.rotation, np.float64),
        label=box.label,
        score=box.score,
    )
