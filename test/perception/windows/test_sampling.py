"""Sampling by rate and by image motion."""

from __future__ import annotations

import numpy as np
import pytest

from vidllm_ros.perception.config import WindowConfig
from vidllm_ros.perception.errors import DropReason
from vidllm_ros.perception.types import Frame
from vidllm_ros.perception.windows.sampling import FrameSampler, image_motion

BY_RATE = WindowConfig(sample_rate=4.0, min_motion=0.0)
BY_MOTION = WindowConfig(sample_rate=10.0, min_motion=0.02, max_wait=2.0)


def wall(shift, noise_seed=None, size=(120, 160)):
    """A textured wall, shifted by some pixels."""
    random = np.random.default_rng(3)
    texture = random.integers(0, 256, (30, 200), np.uint8).repeat(4, 0).repeat(4, 1)
    image = texture[: size[0], shift : shift + size[1]].astype(np.int16)
    if noise_seed is not None:
        image = image + np.random.default_rng(noise_seed).normal(0, 3, image.shape)
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, 2)


def taken(config, stamps, images=None):
    sampler = FrameSampler()
    images = images or [wall(0)] * len(stamps)
    reasons = [
        sampler.skip_reason(Frame(image, round(stamp * 1e9)), config)
        for stamp, image in zip(stamps, images, strict=True)
    ]
    return [stamp for stamp, reason in zip(stamps, reasons, strict=True) if reason is None], set(reasons) - {None}


@pytest.mark.parametrize("camera_rate", [4.0, 7.0, 10.0, 15.0, 29.97, 60.0])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_the_rate_is_kept_on_average_whatever_the_cameras(camera_rate, jitter):
    random = np.random.default_rng(0)
    stamps = np.arange(0, 30, 1 / camera_rate)
    stamps = stamps + jitter / camera_rate * random.uniform(-1, 1, len(stamps))
    kept, reasons = taken(BY_RATE, list(stamps))
    assert len(kept) == pytest.approx(30 * 4.0, rel=0.02)
    assert reasons <= {DropReason.SAMPLE_RATE}
    assert np.diff(kept).max() < 0.25 + 1.5 / camera_rate


def test_a_slower_camera_gives_all_its_frames():
    kept, _ = taken(BY_RATE, [0.5 * index for index in range(20)])
    assert len(kept) == 20


def test_a_pause_does_not_cause_a_burst():
    stamps = [index / 30 for index in range(30)] + [5 + index / 30 for index in range(30)]
    kept, _ = taken(BY_RATE, stamps)
    assert np.diff(kept).min() > 0.2


def test_a_camera_that_stands_still_is_taken_every_max_wait_only():
    stamps = [index / 10 for index in range(101)]
    kept, reasons = taken(BY_MOTION, stamps, [wall(0, noise_seed=index) for index in range(101)])
    assert kept == pytest.approx([0, 2, 4, 6, 8, 10])
    assert reasons == {DropReason.NO_MOTION}


def test_max_wait_zero_waits_for_motion():
    config = WindowConfig(sample_rate=10.0, min_motion=0.02, max_wait=0.0)
    stamps = [index / 10 for index in range(51)]
    images = [wall(0, noise_seed=index) for index in range(50)] + [wall(8)]
    assert taken(config, stamps, images)[0] == [0, 5.0]


def test_a_moving_camera_is_taken_by_its_motion():
    """2 pixels of 160 per frame are 1.25 %: every second frame has moved by the 2 % asked for."""
    stamps = [index / 10 for index in range(40)]
    kept, reasons = taken(BY_MOTION, stamps, [wall(2 * index) for index in range(40)])
    assert kept == pytest.approx([0.2 * index for index in range(20)])
    assert reasons == {DropReason.NO_MOTION}


def test_a_changed_scene_is_taken_although_nothing_can_be_tracked():
    images = [wall(0), np.full((120, 160, 3), 10, np.uint8), np.full((120, 160, 3), 200, np.uint8)]
    assert len(taken(BY_MOTION, [0, 0.1, 0.2], images)[0]) == 3


def test_a_blank_wall_that_does_not_change_is_not_taken_again():
    blank = np.full((120, 160, 3), 100, np.uint8)
    kept, reasons = taken(BY_MOTION, [0, 0.1, 0.2], [blank] * 3)
    assert kept == [0] and reasons == {DropReason.NO_MOTION}


@pytest.mark.parametrize("shift", [1, 3, 10])
def test_image_motion_is_a_fraction_of_the_width(shift):
    assert image_motion(wall(0)[..., 0], wall(shift)[..., 0]) == pytest.approx(shift / 160, abs=0.001)


@pytest.mark.parametrize("size", [(16, 16), (16, 400), (400, 16)])
def test_odd_sizes_do_not_break_it(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert taken(BY_MOTION, [0, 0.1], [image, image])[0][0] == 0
