"""Rooms come from their seeds and from nothing else."""

import multiprocessing

import numpy as np
import pytest

from vidllm_ros.training.rooms import ROBOT, SPLITS, RoomError, room, room_sample, room_video

SMALL = (42, 56)


def assert_same(a, b):
    assert a.name == b.name
    for field in ("rgb", "depth", "T_world_camera", "intrinsics", "instances"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert [box.label for box in a.boxes] == [box.label for box in b.boxes]
    np.testing.assert_array_equal([box.center for box in a.boxes], [box.center for box in b.boxes])
    assert a.tasks == b.tasks


def test_same_seed_same_sample():
    assert_same(room_sample(7, "train", 2, SMALL), room_sample(7, "train", 2, SMALL))


def test_same_sample_in_a_worker_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(room_sample, (7, "val", 2, SMALL))
    assert_same(room_sample(7, "val", 2, SMALL), there)


def test_shapes_types_and_units():
    sample = room_sample(3, "test", 3, (84, 112), tasks=6)
    assert sample.name == "rooms/test/3"
    assert sample.rgb.shape == (3, 84, 112, 3) and sample.rgb.dtype == np.uint8
    assert sample.depth.shape == (3, 84, 112) and sample.depth.dtype == np.float32
    assert sample.instances.shape == (3, 84, 112) and sample.instances.dtype == np.int16
    assert sample.T_world_camera.shape == (3, 4, 4) and sample.T_world_camera.dtype == np.float64
    assert sample.intrinsics.shape == (3, 3, 3) and sample.intrinsics.dtype == np.float64
    assert len(sample.tasks) == 6
    assert np.isfinite(sample.depth).all() and (sample.depth > 0).all() and sample.depth.max() < 10
    assert sample.instances.min() >= -3 and sample.instances.max() < len(sample.boxes)
    rotations = sample.T_world_camera[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (3, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)


def test_robot_keeps_the_metric_cues():
    for seed in range(10):
        video = room_video(seed, "train", 12, (84, 112))
        assert np.abs(video.T_world_camera[:, 2, 3] - 1.2).max() <= 0.02 + 1e-9
        pitch = np.degrees(np.arcsin(video.T_world_camera[:, 2, 2]))
        assert pitch.min() > -14.01 and pitch.max() < -5.99
        assert np.degrees(2 * np.arctan(112 / 2 / video.intrinsics[0, 0])) == pytest.approx(66)
        np.testing.assert_allclose(video.intrinsics[:2, 2], (56, 42))


def test_pictures_are_neither_dark_nor_flat():
    sample = room_sample(11, "train", 4, SMALL)
    assert 60 < sample.rgb.mean() < 220 and sample.rgb.std() > 15


def signature(seed: int, split: str) -> bytes:
    made = room(seed, split)
    return np.array([*made.size, *(x for thing in made.objects for x in thing.box.center)]).tobytes()


def test_no_two_rooms_coincide_across_seeds_and_splits():
    seen = {signature(seed, split) for split in SPLITS for seed in range(40)}
    assert len(seen) == 40 * len(SPLITS)


def test_the_room_does_not_depend_on_how_it_is_filmed():
    one, many = room_sample(5, "train", 1, SMALL), room_sample(5, "train", 3, (28, 42), stride=2)
    np.testing.assert_array_equal([b.center for b in one.boxes], [b.center for b in many.boxes])


def test_stride_skips_frames_of_the_same_path():
    every, second = room_sample(5, "train", 5, SMALL), room_sample(5, "train", 3, SMALL, stride=2)
    np.testing.assert_array_equal(every.T_world_camera[::2], second.T_world_camera)
    np.testing.assert_array_equal(every.depth[::2], second.depth)


def test_video_has_stamps_at_its_rate():
    frames = list(room_video(1, "test", 3, SMALL, rate_hz=8))
    assert [frame.stamp_ns for frame in frames] == [0, 125_000_000, 250_000_000]
    assert frames[0].rgb.shape == (*SMALL, 3)


def test_styles_differ_in_lens_and_height():
    fields = {room_video(seed, "train", 1, SMALL, style="varied").intrinsics[0, 0] for seed in range(5)}
    heights = [room_video(seed, "train", 1, SMALL, style="varied").T_world_camera[0, 2, 3] for seed in range(5)]
    assert len(fields) == 5 and np.ptp(heights) > 0.1
    assert room_video(0, "train", 1, SMALL, style=ROBOT).style is ROBOT


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "dev"}, "train, val, test"),
        ({"seed": -1}, "start at 0"),
        ({"frames": 0}, "at least 1"),
        ({"stride": 0}, "at least 1"),
        ({"image_size": (4, 56)}, "at least 8"),
        ({"rate_hz": 0.0}, "must be positive"),
        ({"style": "palace"}, "robot, varied"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(RoomError, match=words):
        room_sample(**{"seed": 0, "image_size": SMALL, **arguments})
