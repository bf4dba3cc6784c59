"""Depth to points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vidllm_ros.perception.config import CloudConfig
from vidllm_ros.perception.mapping.cloud import PointCloud, cap, downsample, unproject, window_cloud

INDICES = [0, 4, 8]
ALL_POINTS = CloudConfig(min_confidence=0.0, max_range=50.0, voxel_size=0.0)


def test_unprojection_agrees_with_the_room_pixel_by_pixel(room):
    poses = np.stack([room.camera(index) for index in INDICES])
    depth = np.stack([room.depth(pose) for pose in poses])
    pixels = np.nonzero(depth > 0)
    points = unproject(depth, np.tile(room.intrinsics, (3, 1, 1)), poses, pixels).reshape(3, 60, 80, 3)
    for index, pose in enumerate(poses):
        np.testing.assert_allclose(points[index], room.world_points(pose), atol=1e-12)


def test_unprojection_of_some_pixels_only(room):
    poses = np.stack([room.camera(index) for index in INDICES])
    depth = np.stack([room.depth(pose) for pose in poses])
    pixels = (np.array([0, 2, 2]), np.array([5, 0, 59]), np.array([7, 79, 0]))  # image 1 has none
    points = unproject(depth, np.tile(room.intrinsics, (3, 1, 1)), poses, pixels)
    for point, (image, v, u) in zip(points, zip(*pixels, strict=True), strict=True):
        np.testing.assert_allclose(point, room.world_points(poses[image])[v, u], atol=1e-12)


def test_window_cloud_lies_on_the_room_at_any_scale(room):
    cloud = window_cloud(room.reconstruct(INDICES, 1.3), room.camera(0), 1 / 1.3, ALL_POINTS)
    expected = np.concatenate([room.world_points(room.camera(index)).reshape(-1, 3) for index in INDICES])
    np.testing.assert_allclose(cloud.points, expected, atol=1e-4)
    assert cloud.points.dtype == np.float32 and cloud.colors.dtype == np.uint8


def test_confidence_range_and_invalid_depth_filter(room):
    reconstruction = room.reconstruct([0])
    confidence, depth = reconstruction.confidence.copy(), reconstruction.depth.copy()
    confidence[0, :20] = 0.4
    depth[0, 20:30] = 0.0
    depth[0, 30:40] = 20.0
    changed = replace(reconstruction, confidence=confidence, depth=depth)
    cloud = window_cloud(changed, np.eye(4), 1.0, CloudConfig(min_confidence=0.5, max_range=8.0, voxel_size=0.0))
    expected = (depth[0, 40:] <= 8.0).sum()
    assert len(cloud) == expected
    assert (cloud.confidence >= 0.5).all()


def test_zero_confidence_never_passes(room):
    reconstruction = room.reconstruct([0])
    silent = replace(reconstruction, confidence=np.zeros_like(reconstruction.confidence))
    assert len(window_cloud(silent, np.eye(4), 1.0, ALL_POINTS)) == 0


def test_range_counts_in_the_maps_metres(room):
    reconstruction = room.reconstruct([0], 10.0)
    near = CloudConfig(min_confidence=0.0, max_range=8.0, voxel_size=0.0)
    assert len(window_cloud(reconstruction, np.eye(4), 0.1, near)) == (room.depth(room.camera(0)) <= 8).sum()


def test_downsampling_takes_voxel_means():
    random = np.random.default_rng(0)
    points = random.uniform(-1, 1, (5000, 3)).astype(np.float32)
    colors = random.integers(0, 256, (5000, 3), np.uint8)
    confidence = random.random(5000).astype(np.float32)
    small = downsample(PointCloud(points, colors, confidence), 0.25)
    # Independent: group by hand on the same grid.
    cells = {}
    for index, cell in enumerate(map(tuple, np.floor(points.astype(np.float64) / 0.25).astype(int))):
        cells.setdefault(cell, []).append(index)
    assert len(small) == len(cells)
    found = {tuple(np.floor(p.astype(np.float64) / 0.25).astype(int)): i for i, p in enumerate(small.points)}
    for cell, members in cells.items():
        index = found[cell]
        np.testing.assert_allclose(small.points[index], points[members].mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(small.confidence[index], confidence[members].mean(), atol=1e-5)
        np.testing.assert_allclose(small.colors[index], colors[members].mean(axis=0), atol=0.51)


def test_cap_is_even_and_exact():
    cloud = PointCloud(np.arange(300, dtype=np.float32).reshape(100, 3), np.zeros((100, 3), np.uint8), np.ones(100))
    small = cap(cloud, 10)
    assert len(small) == 10
    assert np.diff(small.points[:, 0]).max() < 40
    assert cap(cloud, 100) is cloud


def test_window_cloud_is_capped(room):
    config = CloudConfig(min_confidence=0.0, voxel_size=0.0, max_points=100)
    assert len(window_cloud(room.reconstruct(INDICES), np.eye(4), 1.0, config)) == 100


@pytest.mark.parametrize("voxel", [0.0, 0.05])
def test_an_empty_cloud_stays_empty(voxel):
    empty = PointCloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32))
    assert len(downsample(empty, voxel)) == 0
