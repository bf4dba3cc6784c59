"""Stitching windows of exact synthetic geometry with known disturbances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.config import StitchConfig
from vidllm_ros.perception.mapping.stitching import Placement, align_window

FIRST = list(range(0, 16))
SECOND = list(range(8, 24))
PAIRS = [(index, index + 8) for index in range(8)]


def place(room, scale=1.0, **noise):
    """The first window placed so that the map is the room's world."""
    return Placement(room.reconstruct(FIRST, scale), room.camera(0), 1.0 / scale)


def pose_errors(found, expected):
    angle = np.degrees(Rotation.from_matrix(found[:3, :3] @ expected[:3, :3].T).magnitude())
    return angle, np.linalg.norm(found[:3, 3] - expected[:3, 3])


def test_exact_windows_are_joined_exactly(room):
    result = align_window(room.reconstruct(SECOND), place(room), PAIRS, StitchConfig())
    assert result.problem == ""
    assert result.scale_ratio == pytest.approx(1.0, abs=1e-6)
    angle, distance = pose_errors(result.T_map_window, room.camera(8))
    assert angle < 1e-4 and distance < 1e-5
    assert result.residual < 1e-5


@pytest.mark.parametrize("scale", [0.7, 1.3])
def test_another_scale_is_measured_and_taken_over(room, scale):
    result = align_window(room.reconstruct(SECOND, scale), place(room), PAIRS, StitchConfig())
    assert result.problem == ""
    assert result.scale_ratio == pytest.approx(1 / scale, rel=1e-4)
    angle, distance = pose_errors(result.T_map_window, room.camera(8))
    assert angle < 1e-3 and distance < 1e-4


def test_the_map_keeps_its_metres_along_a_chain(room):
    """Window 1 in metres, 2 too large by 1.3, 3 too small by 0.8, each joined to the one before."""
    placed = place(room)
    for start, scale in ((8, 1.3), (16, 0.8)):
        window = room.reconstruct(list(range(start, start + 16)), scale)
        result = align_window(window, placed, PAIRS, StitchConfig())
        assert result.scale_ratio == pytest.approx(1 / scale, rel=1e-3)
        placed = Placement(window, result.T_map_window, result.scale_ratio)
        for index, pose in enumerate(placed.T_map_camera):
            angle, distance = pose_errors(pose, room.camera(start + index))
            assert angle < 0.01 and distance < 1e-3


def test_surfaces_of_a_window_that_is_a_little_off_meet_those_of_the_map(room):
    """4 % of a room are ten centimetres; a tenth of them is left to the window."""
    window = room.reconstruct(SECOND, 1.04)
    result = align_window(window, place(room), PAIRS, StitchConfig())
    assert result.measured_ratio == pytest.approx(1 / 1.04, rel=1e-3)
    assert result.scale_ratio == pytest.approx(1.04**-0.9, rel=1e-3)
    assert result.residual < 0.004
    keeps = align_window(window, place(room), PAIRS, StitchConfig(scale_pull=1.0))
    assert keeps.scale_ratio == 1.0 and keeps.residual > 0.005


def test_scale_does_not_drift_along_a_chain_of_windows_that_err(room):
    """Each window measures the map 0.4 % too large; without the pull thirty would make it 13 % too large."""
    scales = np.random.default_rng(0).normal(1, 0.01, 30)
    placed, size = place(room), 1.0
    for step, scale in enumerate(scales):
        frames, pairs = (SECOND, PAIRS) if step % 2 == 0 else (FIRST, [(other, own) for own, other in PAIRS])
        window = room.reconstruct(frames, float(scale))
        grown = replace(placed, scale_ratio=placed.scale_ratio * 1.004)
        result = align_window(window, grown, pairs, StitchConfig())
        placed, size = Placement(window, result.T_map_window, result.scale_ratio), result.scale_ratio * scale
        assert 0.95 < size < 1.05


def test_a_window_whose_scale_is_not_trusted_follows_the_map(room):
    result = align_window(room.reconstruct(SECOND, 1.03), place(room), PAIRS, StitchConfig(), trust_scale=False)
    assert result.scale_ratio == pytest.approx(1 / 1.03, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_noise_on_everything_leaves_a_small_error(room, disturb, seed):
    """1 degree and 1 cm on every camera, 3 % on every depth, 10 % gross errors, on both windows."""
    noise = {"rotation": 1.0, "translation": 0.01, "depth": 0.03, "outliers": 0.1}
    placed = Placement(disturb(room.reconstruct(FIRST), 10 + seed, **noise), room.camera(0))
    window = disturb(room.reconstruct(SECOND, 1.3), 20 + seed, **noise)
    result = align_window(window, placed, PAIRS, StitchConfig())
    assert result.problem == ""
    assert result.scale_ratio == pytest.approx(1 / 1.3, rel=0.02)
    angle, distance = pose_errors(result.T_map_window, room.camera(8))
    assert angle < 1.0 and distance < 0.04


def test_points_that_land_in_the_map_are_where_the_room_is(room):
    """Independent of every formula in perception: pixel by pixel un-projection in the conftest."""
    window = room.reconstruct(SECOND, 1.3)
    result = align_window(window, place(room), PAIRS, StitchConfig())
    frame = 12
    (fx, _, cx), (_, fy, cy), _ = room.intrinsics
    truth = room.world_points(room.camera(SECOND[frame]))
    for v, u in ((0, 0), (30, 40), (59, 79)):
        d = float(window.depth[frame, v, u]) * result.scale_ratio
        local = np.array([(u - cx) / fx * d, (v - cy) / fy * d, d])
        pose = window.T_window_camera[frame]
        in_window = pose[:3, :3] @ local + pose[:3, 3] * result.scale_ratio
        in_map = result.T_map_window[:3, :3] @ in_window + result.T_map_window[:3, 3]
        np.testing.assert_allclose(in_map, truth[v, u], atol=1e-3)


def test_one_shared_frame_is_enough(room):
    result = align_window(room.reconstruct(list(range(15, 31)), 1.3), place(room), [(0, 15)], StitchConfig())
    assert result.scale_ratio == pytest.approx(1 / 1.3, rel=1e-4)
    angle, distance = pose_errors(result.T_map_window, room.camera(15))
    assert angle < 1e-3 and distance < 1e-3


def test_a_camera_that_only_turns_is_stitched(room):
    """No parallax at all: scale comes from depth, the place from the points."""

    def turning(indices, scale):
        reconstruction = room.reconstruct([0] * len(indices), scale)
        poses, depths = [], []
        for index in indices:
            pose = room.camera(0)
            pose[:3, :3] = Rotation.from_euler("z", 3 * index, degrees=True).as_matrix() @ pose[:3, :3]
            poses.append(pose)
            depths.append(room.depth(pose) * scale)
        T_window_camera = np.linalg.inv(poses[0]) @ np.stack(poses)
        depth = np.stack(depths).astype(np.float32)
        return replace(reconstruction, T_window_camera=T_window_camera, depth=depth), poses[0]

    first, T_map_window = turning(FIRST, 1.0)
    second, expected = turning(SECOND, 1.3)
    result = align_window(second, Placement(first, T_map_window), PAIRS, StitchConfig())
    assert result.scale_ratio == pytest.approx(1 / 1.3, rel=1e-3)
    angle, distance = pose_errors(result.T_map_window, expected)
    assert angle < 0.01 and distance < 1e-3


def test_depth_of_another_place_is_rejected(room):
    window = room.reconstruct(SECOND)
    elsewhere = room.reconstruct([index + 20 for index in SECOND])
    strict = StitchConfig(max_residual=0.1)  # exact depth deserves a stricter limit than the bundled model's
    result = align_window(replace(window, depth=elsewhere.depth), place(room), PAIRS, strict)
    assert "stitch.max_residual" in result.problem


def test_cameras_that_contradict_each_other_are_rejected(room, disturb):
    window = disturb(room.reconstruct(SECOND), 5, rotation=40.0)
    result = align_window(window, place(room), PAIRS, StitchConfig(max_residual=10.0))
    assert "stitch.max_rotation_residual" in result.problem and "degrees" in result.problem


def test_an_absurd_scale_is_rejected(room):
    result = align_window(room.reconstruct(SECOND, 5.0), place(room), PAIRS, StitchConfig(max_scale_ratio=2.0))
    assert "0.2 times" in result.problem and "stitch.max_scale_ratio" in result.problem


def test_no_confidence_no_alignment(room):
    window = room.reconstruct(SECOND)
    silent = replace(window, confidence=np.zeros_like(window.confidence))
    result = align_window(silent, place(room), PAIRS, StitchConfig())
    assert "have 0 points" in result.problem and "stitch.min_points is 200" in result.problem
