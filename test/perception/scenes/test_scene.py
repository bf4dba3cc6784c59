"""What the language model reads, against an independent reckoning of where patches lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidllm_ros.perception.mapping.scene_memory import SceneMemory
from vidllm_ros.perception.mapping.stitching import Placement
from vidllm_ros.perception.scenes.scene import box_to_map, remembered_scene, window_scene
from vidllm_ros.perception.types import Box3D

SIZE = (84, 112)
INDICES = [0, 3, 6, 9]


@pytest.fixture(scope="module")
def placed(room, model):
    """Exact windows with random semantic tokens, at the network's resolution; map is the room's world."""

    def make(indices, scale=1.0, seed=0, constant=None):
        reconstruction = room.reconstruct(indices, scale)
        poses = np.stack([room.camera(index) for index in indices])
        depth = np.stack([room.depth(pose, SIZE) for pose in poses]).astype(np.float32) * scale
        channels = model.config.patches.feature_dim
        tokens = torch.randn(len(indices), 48, channels, generator=torch.Generator().manual_seed(seed))
        if constant is not None:
            tokens = torch.full_like(tokens, constant)
        shape = (len(indices), *SIZE)
        return Placement(
            replace(
                reconstruction,
                depth=depth,
                confidence=np.ones(shape, np.float32),
                semantic_tokens=tokens,
                rgb=np.zeros(shape),
            ),
            room.camera(indices[0]),
            1 / scale,
        )

    return make


def on_room(points, room, margin):
    """Distance of points to the nearest surface of the room, by hand."""
    low, high = np.zeros(3), np.array(room.extent)
    distance = np.minimum(np.abs(points - low), np.abs(points - high)).min(axis=1)
    for a, b in room.boxes:
        outside = np.maximum(np.maximum(np.array(a) - points, points - np.array(b)), 0)
        inside = np.minimum(points - np.array(a), np.array(b) - points).min(axis=1)
        distance = np.minimum(distance, np.where(inside > 0, inside, np.linalg.norm(outside, axis=1)))
    return distance < margin


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_tokens_lie_on_the_room_in_the_maps_metres(model, room, placed, scale):
    scene = window_scene(model, placed(INDICES, scale), 5)
    assert scene.window_id == 5 and scene.stamps_ns == (0, 9 * 250_000_000)
    points = scene.tokens.positions.numpy().astype(float) @ scene.T_map_scene[:3, :3].T + scene.T_map_scene[:3, 3]
    assert 20 < len(points) <= model.config.patches.max_tokens
    # A patch that crosses an edge takes the median of its pixels, and a voxel averages over a corner.
    assert on_room(points, room, 0.25).mean() > 0.95


def test_scene_frame_is_the_first_cameras(model, room, placed):
    scene = window_scene(model, placed(INDICES), 0)
    np.testing.assert_allclose(scene.T_map_scene[:3, 3], room.camera(0)[:3, 3])
    np.testing.assert_allclose(scene.T_map_scene[2, :3], [0, 0, 1], atol=1e-12)
    assert scene.tokens.positions[:, 0].median() > 0, "what the camera sees lies in front of it"


def test_everything_seen_lies_on_the_room_and_counts_from_the_first_camera(model, room, placed):
    memory = SceneMemory(model)
    memory.add(placed(INDICES))
    memory.add(placed([6, 9, 12, 15], scale=1.3), start=2)
    scene = remembered_scene(model, memory.held)
    assert scene.window_id is None and scene.stamps_ns == (0, 15 * 250_000_000)
    np.testing.assert_allclose(scene.T_map_scene[:3, 3], room.camera(0)[:3, 3])
    points = scene.tokens.positions.numpy().astype(float) @ scene.T_map_scene[:3, :3].T + scene.T_map_scene[:3, 3]
    assert len(points) <= model.config.patches.max_tokens
    assert on_room(points, room, 0.25).mean() > 0.95


def test_position_enters_the_features_once(model, placed):
    """Without meaning of their own (zero tokens) the features of everything seen are those of their positions."""
    memory = SceneMemory(model)
    memory.add(placed(INDICES, constant=0.0))
    memory.add(placed([6, 9, 12, 15], constant=0.0))
    held = memory.held
    np.testing.assert_array_equal(held.sums[:, :-4], 0)
    big = replace(model.config.patches, max_tokens=100_000, voxel_size=0.001)
    original = model.patches.config
    model.patches.config = big  # no pooling: each voxel stays a token
    try:
        scene = remembered_scene(model, held)
    finally:
        model.patches.config = original
    with torch.inference_mode():
        torch.testing.assert_close(
            scene.tokens.features, model.patches.position(scene.tokens.positions), atol=1e-4, rtol=0
        )


def test_memory_averages_semantics_by_how_often_a_place_was_seen(model, placed):
    memory = SceneMemory(model)
    memory.add(placed([0], constant=1.0))
    memory.add(placed([0], constant=4.0))
    memory.add(placed([0], constant=4.0))
    means = memory.held.sums[:, 0] / memory.held.sums[:, -1]
    torch.testing.assert_close(means, torch.full_like(means, 3.0))


def test_memory_is_capped_and_what_was_seen_longest_ago_leaves(model, placed):
    memory = SceneMemory(model, max_voxels=60)
    memory.add(placed([0], constant=1.0))
    memory.add(placed([60], constant=2.0))
    means = memory.held.sums[:, 0] / memory.held.sums[:, -1]
    assert len(means) == 60 and (means == 2.0).sum() > (means == 1.0).sum()


def test_memory_rescales(model, placed):
    memory = SceneMemory(model)
    memory.add(placed(INDICES))
    before = memory.held.sums[:, -4:-1].sum(dim=0)
    memory.move(np.eye(3), 1.5)
    torch.testing.assert_close(memory.held.sums[:, -4:-1].sum(dim=0), 1.5 * before, rtol=1e-4, atol=1e-3)
    memory.clear()
    assert memory.held is None


def test_a_box_moves_with_its_corners():
    T_map_scene = np.eye(4)
    T_map_scene[:2, :2] = [[0, -1], [1, 0]]
    T_map_scene[:3, 3] = [1, 2, 3]
    box = Box3D(np.array([1.0, 0, 0.5]), np.array([0.4, 0.2, 1.0]), np.eye(3), "lamp", 0.7)
    moved = box_to_map(box, T_map_scene)
    expected = box.corners() @ T_map_scene[:3, :3].T + T_map_scene[:3, 3]
    np.testing.assert_allclose(moved.corners(), expected)
    assert (moved.label, moved.score) == ("lamp", 0.7)
