"""Frames with depth: cache, real clips and their split, crops that keep depth exact."""

import json

import cv2
import numpy as np
import pytest

from vidllm_ros.training.metric_depth.augment import AugmentConfig, disturb, erase, match_colours, reframe
from vidllm_ros.training.metric_depth.frame_cache import CACHED_SIZE, Frames, read_shards, shard_exists, write_shard
from vidllm_ros.training.metric_depth.real_frames import (
    FIRST_TEST_FRAME,
    held_out_clips,
    nearest,
    read_test_clip,
    training_clips,
)
from vidllm_ros.training.metric_depth.render import plain_views
from vidllm_ros.training.metric_depth.room_views import ViewRange, draw_intrinsics, draw_pose


def some_frames(count: int = 4) -> Frames:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (count, *CACHED_SIZE, 3), dtype=np.uint8)
    return Frames(rgb, rng.uniform(1, 5, (count, *CACHED_SIZE)).astype(np.float16), np.full(count, 0.8, np.float32))


def write_clip(folder, count: int, size: tuple[int, int] = (126, 168)) -> None:
    """A clip whose picture's first pixel and whole depth tell the frame's number."""
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        rgb = np.full((*size, 3), index % 256, np.uint8)
        cv2.imwrite(str(folder / "rgb" / f"{index:04d}.jpg"), rgb)
        cv2.imwrite(str(folder / "depth" / f"{index:04d}.png"), np.full(size, 1000 + index, np.uint16))
    about = {
        "width": size[1],
        "height": size[0],
        "fx": 140.0,
        "fy": 140.0,
        "cx": 83.5,
        "cy": 62.5,
        "depth_unit_m": 1e-3,
    }
    (folder / "clip.json").write_text(json.dumps(about))


def test_shards_come_back_and_half_written_ones_do_not_count(tmp_path):
    frames = some_frames()
    write_shard(tmp_path, 3, frames)
    assert shard_exists(tmp_path, 3) and not shard_exists(tmp_path, 4)
    (tmp_path / "focal_00004.partial.npy").write_bytes(b"half")
    (found,) = read_shards(tmp_path)
    np.testing.assert_array_equal(found.rgb, frames.rgb)
    np.testing.assert_array_equal(found.depth, frames.depth)
    np.testing.assert_array_equal(found.focal, frames.focal)


def test_test_frames_are_never_trained_on(tmp_path):
    for name, first in FIRST_TEST_FRAME.items():
        write_clip(tmp_path / name, first + 5)
        (frames,) = training_clips(tmp_path).values()
        assert frames.depth.max() <= np.float16(1.0 + (first - 1) / 1000) and len(frames) == first


def test_rooms_are_held_out_whole(tmp_path):
    for name in ("tum_fr1_rpy", "tum_fr1_desk_9", "a_lab"):
        write_clip(tmp_path / name, 2)
    assert {room: len(frames) for room, frames in training_clips(tmp_path).items()} == {"fr1": 4, "a_lab": 2}
    assert set(training_clips(tmp_path, ["fr1"])) == {"a_lab"}
    assert set(held_out_clips(tmp_path, ["fr1"])) == {"fr1"}


def test_wide_pictures_give_three_views_with_a_longer_lens(tmp_path):
    write_clip(tmp_path / "wide", 2, (112, 168))
    (frames,) = training_clips(tmp_path).values()
    assert frames.rgb.shape == (6, *CACHED_SIZE, 3)
    np.testing.assert_allclose(frames.focal, 140 / 149, rtol=1e-6)


def test_test_clips_are_fitted_as_perception_fits_frames(tmp_path):
    write_clip(tmp_path, 3, (240, 360))
    listed = [{"rgb": f"rgb/{k:04d}.jpg", "depth": f"depth/{k:04d}.png"} for k in range(3)]
    (tmp_path / "frames.json").write_text(json.dumps({"frames": listed}))
    (tmp_path / "intrinsics.json").write_text(json.dumps({"fx": 300.0, "depth_scale": 1000.0}))
    frames = read_test_clip(tmp_path, (84, 112), first=1)
    assert frames.rgb.shape == (2, 84, 112, 3)
    np.testing.assert_allclose(frames.depth, np.array([1.001, 1.002])[:, None, None] * np.ones((1, 84, 112)), rtol=1e-6)
    np.testing.assert_allclose(frames.focal, 300 / 320)


def test_nearest_takes_middles():
    depth = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(nearest(depth, (2, 3)), depth[1::2, 1::2])
    np.testing.assert_array_equal(nearest(depth, (8, 12)), np.kron(depth, np.ones((2, 2))))


def test_a_crop_is_a_longer_lens():
    depth = np.tile(np.linspace(1, 2, 168), (126, 1))
    rgb = np.repeat((100 * depth)[..., None], 3, 2).astype(np.uint8)
    config = AugmentConfig(smallest_crop=0.5, crop_probability=1, turn_probability=0)
    for seed in range(20):
        picture, cut, focal = reframe(rgb, depth, 0.8, (84, 112), (42, 56), config, np.random.default_rng(seed))
        assert picture.shape == (84, 112, 3) and cut.shape == (42, 56)
        # The depth's slope over the picture tells how much of it was kept.
        kept = (cut.max() - cut.min()) * 56 / 55
        assert focal == pytest.approx(0.8 / kept, rel=0.04)
        assert np.abs(picture[::2, ::2, 0] / 100.0 - cut).max() < 0.03


def test_changes_of_colour_keep_shape_and_kind():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (84, 112, 3), dtype=np.uint8)
    for _ in range(30):
        changed = disturb(rgb, AugmentConfig(), rng)
        assert changed.shape == rgb.shape and changed.dtype == np.uint8
    other = np.full_like(rgb, 200)
    assert match_colours(rgb, other, 1.0).mean() == pytest.approx(200, abs=15)
    picture, depth = rgb.copy(), np.ones((42, 56), np.float32)
    erase(picture, depth, rng)
    assert 0.005 < (depth == 0).mean() < 0.2 and (picture != rgb).any()


def test_cameras_stand_in_free_places():
    clearance = np.zeros((40, 60))
    clearance[10:20, 30:50] = 0.5
    rng = np.random.default_rng(0)
    for _ in range(50):
        pose = draw_pose(clearance, 2.4, ViewRange(), rng)
        x, y, z = pose[:3, 3]
        assert 1.5 <= x <= 2.5 and 0.5 <= y <= 1.0 and 0.2 <= z <= 2.25
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        matrix, focal = draw_intrinsics((84, 112), ViewRange(), rng)
        assert matrix[0, 0] / 112 == pytest.approx(focal) and 0.41 < focal < 1.13


def test_views_of_plain_rooms_repeat_themselves():
    first, again = (plain_views(5, "val", 2) for _ in range(2))
    for (rgb, depth, focal), (other, same, length) in zip(first, again, strict=True):
        np.testing.assert_array_equal(rgb, other)
        np.testing.assert_array_equal(depth, same)
        assert focal == length and depth.min() > 0 and rgb.shape == (*CACHED_SIZE, 3)
