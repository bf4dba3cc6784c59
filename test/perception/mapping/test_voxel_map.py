"""The accumulated map and the path."""

from __future__ import annotations

import numpy as np
import pytest

from vidllm_ros.perception.config import MapConfig
from vidllm_ros.perception.mapping.cloud import PointCloud
from vidllm_ros.perception.mapping.map import CameraPath, VoxelMap
from vidllm_ros.perception.mapping.stitching import Placement


def cloud(seed, count=3000, center=0.0, spread=1.0):
    random = np.random.default_rng(seed)
    return PointCloud(
        (center + spread * random.uniform(-1, 1, (count, 3))).astype(np.float32),
        random.integers(0, 256, (count, 3), np.uint8),
        random.uniform(0.1, 1, count).astype(np.float32),
    )


def by_hand(clouds, voxel):
    """Confidence-weighted means, voxel by voxel, in plain Python."""
    cells = {}
    for part in clouds:
        for point, color, weight in zip(part.points.astype(float), part.colors, part.confidence, strict=True):
            total = cells.setdefault(tuple(np.floor(point / voxel).astype(int)), [0.0, np.zeros(3), np.zeros(3), 0.0])
            total[0] += float(weight)
            total[1] = total[1] + weight * point
            total[2] = total[2] + weight * color.astype(float)
            total[3] += float(weight) ** 2
    return {cell: (p / w, c / w, q / w) for cell, (w, p, c, q) in cells.items()}


def test_voxels_hold_weighted_means_over_all_clouds():
    parts = [cloud(0), cloud(1, center=0.3), cloud(2, center=-0.4)]
    voxels = VoxelMap(MapConfig(voxel_size=0.2))
    for part in parts:
        voxels.add(part)
    found, expected = voxels.cloud(), by_hand(parts, 0.2)
    assert len(found) == len(voxels) == len(expected)
    for point, color, confidence in zip(found.points, found.colors, found.confidence, strict=True):
        p, c, q = expected[tuple(np.floor(point.astype(float) / 0.2).astype(int))]
        np.testing.assert_allclose(point, p, atol=1e-5)
        np.testing.assert_allclose(color, c, atol=0.51)
        assert confidence == pytest.approx(q, rel=1e-4)


def test_it_is_capped_and_what_was_seen_longest_ago_leaves():
    voxels = VoxelMap(MapConfig(voxel_size=0.1, max_points=2000))
    for step in range(6):
        voxels.add(cloud(step, count=1500, center=10.0 * step))
        assert len(voxels) <= 2000
    x = voxels.cloud().points[:, 0]
    assert (x > 45).sum() == np.unique(np.floor(cloud(5, 1500, 50.0).points.astype(float) / 0.1), axis=0).shape[0]
    assert (x < 35).sum() == 0


def test_a_voxel_seen_again_is_fresh():
    voxels = VoxelMap(MapConfig(voxel_size=0.1, max_points=2))
    at = [
        PointCloud(np.array([[x, 0, 0]], np.float32), np.zeros((1, 3), np.uint8), np.ones(1, np.float32))
        for x in (0.05, 1.05, 2.05)
    ]
    for part in (at[0], at[1], at[0], at[2]):
        voxels.add(part)
    np.testing.assert_allclose(sorted(voxels.cloud().points[:, 0]), [0.05, 2.05])


def test_rescaling_multiplies_coordinates():
    voxels = VoxelMap(MapConfig(voxel_size=0.001))
    part = cloud(0, count=200)
    voxels.add(part)
    before = voxels.cloud().points
    voxels.move(np.eye(3), 1.5)
    after = voxels.cloud().points
    np.testing.assert_allclose(np.sort(after, axis=0), np.sort(before * 1.5, axis=0), atol=1e-5)


def test_rescaling_keeps_what_each_voxel_weighs():
    heavy, light = (
        PointCloud(np.array([[x, 0.1, 0.1]], np.float32), np.zeros((1, 3), np.uint8), np.ones(1, np.float32))
        for x in (0.2, 0.8)
    )
    voxels = VoxelMap(MapConfig(voxel_size=1.0))
    for _ in range(9):
        voxels.add(heavy)
    voxels.move(np.eye(3), 1.01)
    voxels.add(light)
    np.testing.assert_allclose(voxels.cloud().points[0], (0.9 * 1.01 * heavy.points + 0.1 * light.points)[0], rtol=1e-5)


def test_rescaling_keeps_ages():
    at = [
        PointCloud(np.array([[x, 0, 0]], np.float32), np.zeros((1, 3), np.uint8), np.ones(1, np.float32))
        for x in (0.05, 1.05, 3.05)
    ]
    voxels = VoxelMap(MapConfig(voxel_size=0.1, max_points=2))
    voxels.add(at[1])
    voxels.add(at[0])
    voxels.move(np.eye(3), 2.0)
    voxels.add(at[2])
    np.testing.assert_allclose(sorted(voxels.cloud().points[:, 0]), [0.1, 3.05], rtol=1e-5)


def test_another_voxel_size_takes_effect_at_once():
    voxels = VoxelMap(MapConfig(voxel_size=0.05))
    voxels.add(cloud(0))
    before = len(voxels)
    voxels.resize(MapConfig(voxel_size=0.5))
    assert len(voxels) < before / 10


def test_points_beyond_any_reach_are_left_out():
    far = PointCloud(np.array([[1e9, 0, 0], [0, 0, 0]], np.float32), np.zeros((2, 3), np.uint8), np.ones(2, np.float32))
    voxels = VoxelMap(MapConfig())
    voxels.add(far)
    assert len(voxels) == 1
    voxels.clear()
    assert len(voxels.cloud()) == 0


def placement(room, indices, scale=1.0):
    return Placement(room.reconstruct(indices, scale), room.camera(indices[0]), 1 / scale)


def test_the_path_holds_each_frame_once(room):
    path = CameraPath(100)
    path.add(placement(room, list(range(0, 16))))
    path.add(placement(room, list(range(8, 24)), 1.3), start=8)
    stamps, poses = path.poses()
    assert stamps.tolist() == [index * 250_000_000 for index in range(24)]
    np.testing.assert_allclose(poses, np.stack([room.camera(index) for index in range(24)]), atol=1e-9)


def test_the_path_is_capped_and_the_oldest_leave(room):
    path = CameraPath(10)
    path.add(placement(room, list(range(16))))
    assert path.poses()[0].tolist() == [index * 250_000_000 for index in range(6, 16)]
    path.resize(4)
    assert len(path) == 4 and path.poses()[0][-1] == 15 * 250_000_000


def test_after_a_clock_that_went_back_the_path_goes_on_from_there(room):
    path = CameraPath(100)
    path.add(placement(room, list(range(10, 26))))
    path.add(placement(room, list(range(12, 16))))
    assert path.poses()[0].tolist() == [index * 250_000_000 for index in range(10, 16)]


def test_the_path_rescales(room):
    path = CameraPath(100)
    path.add(placement(room, [0, 4, 8]))
    before = path.poses()[1]
    path.move(np.eye(3), 2.0)
    after = path.poses()[1]
    np.testing.assert_allclose(after[:, :3, 3], 2 * before[:, :3, 3])
    np.testing.assert_array_equal(after[:, :3, :3], before[:, :3, :3])


def test_an_empty_path_has_empty_arrays():
    stamps, poses = CameraPath(5).poses()
    assert stamps.shape == (0,) and poses.shape == (0, 4, 4)
