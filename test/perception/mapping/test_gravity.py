"""The upward direction, from the floor or without one."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.config import CloudConfig, GravityConfig
from vidllm_ros.perception.mapping.gravity import find_gravity, level_pose, scene_pose
from vidllm_ros.perception.types import Frame

INDICES = list(range(0, 32, 2))


def tilt(up, T_world_camera):
    """Degrees between an upward direction in a camera's frame and the true one."""
    true = T_world_camera[:3, :3].T @ np.array([0.0, 0.0, 1.0])
    return np.degrees(np.arccos(np.clip(up @ true, -1, 1)))


def test_the_floor_tells_which_way_is_up(room):
    """The first camera is pitched down by 14 degrees: assuming it level would be that much wrong."""
    found = find_gravity(room.reconstruct(INDICES), GravityConfig(), CloudConfig())
    assert found.source == "floor"
    assert tilt(found.up, room.camera(0)) < 0.2
    assert tilt(np.array([0.0, -1.0, 0.0]), room.camera(0)) > 10


@pytest.mark.parametrize("seed", range(3))
def test_a_noisy_floor_does_too(room, disturb, seed):
    noisy = disturb(room.reconstruct(INDICES), seed, rotation=0.5, translation=0.01, depth=0.02, outliers=0.05)
    found = find_gravity(noisy, GravityConfig(), CloudConfig())
    assert found.source == "floor"
    assert tilt(found.up, room.camera(0)) < 2.0


def test_the_same_window_gives_the_same_direction(room, disturb):
    noisy = disturb(room.reconstruct(INDICES), 1, depth=0.03)
    first, second = (find_gravity(noisy, GravityConfig(), CloudConfig()).up for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_wall_is_no_floor(room):
    """A level camera that sees nothing but one wall."""
    reconstruction = room.reconstruct([0] * 4)
    wall = replace(reconstruction, depth=np.full_like(reconstruction.depth, 2.0))
    found = find_gravity(wall, GravityConfig(), CloudConfig())
    assert found.source == "assumed level"
    np.testing.assert_array_equal(found.up, [0, -1, 0])


def plane_depth(room, normal, height):
    """Depth [60, 80] of the plane that lies ``height`` metres behind the camera against ``normal``; 0 where unseen."""
    v, u = np.mgrid[:60, :80]
    along = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(room.intrinsics).T @ np.asarray(normal)
    depth = -height / np.where(np.abs(along) < 1e-3, np.inf, along)
    return np.where((depth > 0) & (depth < 8), depth, 0)


def with_depth(room, depth):
    return replace(room.reconstruct([0] * 4), depth=np.stack([depth] * 4).astype(np.float32))


def test_a_plane_below_the_camera_is_a_floor(room):
    """The same construction as the two tests that follow, as it should be."""
    up = np.array([np.sin(0.3), -np.cos(0.3), 0.0])
    found = find_gravity(with_depth(room, plane_depth(room, up, 1.4)), GravityConfig(), CloudConfig())
    assert found.source == "floor"
    np.testing.assert_allclose(found.up, up, atol=0.01)


def test_a_ceiling_is_no_floor(room):
    up = np.array([0.0, -np.cos(0.3), np.sin(0.3)])
    ceiling = plane_depth(room, up, -1.2)
    assert (ceiling > 0).sum() > 1000
    assert find_gravity(with_depth(room, ceiling), GravityConfig(), CloudConfig()).source == "assumed level"


def test_a_ramp_with_things_below_it_is_no_floor(room):
    up = np.array([np.sin(0.5), -np.cos(0.5), 0.0])
    ramp = plane_depth(room, up, 1.0)
    ramp[:, ::3] *= np.random.default_rng(0).uniform(1.3, 2.0, ramp[:, ::3].shape)
    assert find_gravity(with_depth(room, ramp), GravityConfig(), CloudConfig()).source == "assumed level"


def test_noise_is_no_floor(room):
    random = np.random.default_rng(0)
    reconstruction = room.reconstruct(INDICES)
    chaos = replace(reconstruction, depth=random.uniform(0.5, 6, reconstruction.depth.shape).astype(np.float32))
    assert find_gravity(chaos, GravityConfig(), CloudConfig()).source == "assumed level"


def test_a_window_without_confidence_has_no_floor(room):
    reconstruction = room.reconstruct(INDICES)
    silent = replace(reconstruction, confidence=np.zeros_like(reconstruction.confidence))
    assert find_gravity(silent, GravityConfig(), CloudConfig()).source == "assumed level"


def test_what_tf_knows_wins(room):
    known = 3.0 * room.camera(0)[:3, :3].T @ np.array([0.0, 0.0, 1.0])
    found = find_gravity(room.reconstruct(INDICES), GravityConfig(), CloudConfig(), up_camera=known)
    assert found.source == "tf" and np.linalg.norm(found.up) == pytest.approx(1.0)
    assert tilt(found.up, room.camera(0)) < 1e-5


@pytest.mark.parametrize("bad", [np.zeros(3), np.full(3, np.nan)])
def test_a_useless_outside_direction_is_ignored(room, bad):
    assert find_gravity(room.reconstruct(INDICES), GravityConfig(), CloudConfig(), up_camera=bad).source == "floor"


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 20, -10), (-170, -40, 25)])
def test_the_map_starts_at_the_camera_with_z_up_and_x_along_its_view(angles):
    level = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    R_world_camera = Rotation.from_euler("ZYX", angles, degrees=True).as_matrix() @ level
    T_map_window = level_pose(R_world_camera.T @ np.array([0.0, 0.0, 1.0]))
    assert np.linalg.det(T_map_window[:3, :3]) == pytest.approx(1.0)
    np.testing.assert_array_equal(T_map_window[:3, 3], 0)
    # By hand: the same camera with its heading taken away.
    expected = Rotation.from_euler("ZYX", (0, *angles[1:]), degrees=True).as_matrix() @ level
    np.testing.assert_allclose(T_map_window[:3, :3], expected, atol=1e-12)


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_a_camera_that_looks_straight_down_or_up_has_a_heading_too(direction):
    T_map_window = level_pose(np.array([0.0, 0.0, direction]))
    assert np.linalg.det(T_map_window[:3, :3]) == pytest.approx(1.0)
    np.testing.assert_allclose(T_map_window[:3, :3] @ np.array([0, -1.0, 0]), [1, 0, 0], atol=1e-12)


def test_scene_frame_lies_at_the_camera(room):
    T_map_scene = scene_pose(room.camera(5))
    np.testing.assert_allclose(T_map_scene[:3, 3], room.camera(5)[:3, 3])
    np.testing.assert_allclose(T_map_scene[:3, 2], [0, 0, 1], atol=1e-12)
    forward = room.camera(5)[:3, 2] * [1, 1, 0]
    np.testing.assert_allclose(T_map_scene[:3, 0], forward / np.linalg.norm(forward), atol=1e-12)


def edges_of(room_camera, intrinsics, size=(360, 480)):
    """An image of black lines on white: upright edges at many places of a room, and as many that lie."""
    rng = np.random.default_rng(5)
    image = np.full((*size, 3), 255, np.uint8)
    T_camera_world = np.linalg.inv(room_camera)
    for _ in range(60):
        foot = rng.uniform((-4, -4, 0), (8, 8, 2.0))
        turn = rng.uniform(0, np.pi)
        for end in (foot + (0, 0, 0.8), foot + 0.8 * np.array([np.cos(turn), np.sin(turn), 0])):
            ends = np.stack([foot, end]) @ T_camera_world[:3, :3].T + T_camera_world[:3, 3]
            if (ends[:, 2] > 0.3).all():
                pixels = ends @ intrinsics.T
                pixels = np.round(pixels[:, :2] / pixels[:, 2:]).astype(int)
                if (np.abs(pixels) < 2000).all():
                    cv2.line(image, *map(tuple, pixels.tolist()), (0, 0, 0), 2)
    return image


def with_edges(room, indices=(0, 4, 8, 12)):
    """A window without any depth, and its images with edges."""
    reconstruction = room.reconstruct(list(indices))
    scale = np.diag([6.0, 6.0, 1.0])
    frames = [Frame(edges_of(room.camera(i), scale @ room.intrinsics), i) for i in indices]
    blind = replace(reconstruction, depth=np.zeros_like(reconstruction.depth), image_to_network=np.linalg.inv(scale))
    return blind, frames


def test_upright_edges_tell_it_without_any_depth(room):
    blind, frames = with_edges(room)
    found = find_gravity(blind, GravityConfig(), CloudConfig(), frames=frames)
    assert found.source == "vertical edges" and tilt(found.up, room.camera(0)) < 1.0
    assert find_gravity(blind, GravityConfig(), CloudConfig()).source == "assumed level"


def test_edges_in_cameras_that_are_wrong_tell_nothing(room):
    blind, frames = with_edges(room)
    wrong = blind.T_window_camera.copy()
    wrong[:, :3, :3] = Rotation.random(len(wrong), random_state=5).as_matrix()
    found = find_gravity(replace(blind, T_window_camera=wrong), GravityConfig(), CloudConfig(), frames=frames)
    assert found.source == "assumed level" and found.deviation >= 20


def test_noise_has_no_vertical(room):
    blind, _ = with_edges(room)
    rng = np.random.default_rng(0)
    frames = [Frame(rng.integers(0, 256, (360, 480, 3), np.uint8), i) for i in range(4)]
    assert find_gravity(blind, GravityConfig(), CloudConfig(), frames=frames).source == "assumed level"
