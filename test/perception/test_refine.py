"""Keypoints, their matches, and windows refined by them: on images whose geometry is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from vidllm_ros.checkpoints import NANO
from vidllm_ros.evaluation.poses import relative_pose_errors
from vidllm_ros.model import VidLLM
from vidllm_ros.perception import correspondences
from vidllm_ros.perception.config import PerceptionConfig, RefineConfig
from vidllm_ros.perception.correspondences import Correspondences, detect_keypoints, match_keypoints
from vidllm_ros.perception.pipeline import Pipeline
from vidllm_ros.perception.refine import refine
from vidllm_ros.perception.transforms import invert
from vidllm_ros.perception.types import Frame, Reconstruction
from vidllm_ros.training.rooms import room_sample

CONFIG = RefineConfig()
K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])


def texture(seed: int, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    noise = np.random.default_rng(seed).random((size[0] // 6, size[1] // 6, 3))
    return (cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("side", [84, 168, 400])
def test_matches_follow_the_image(side):
    """The second image shows the first one 12 pixels further right and 7 further up."""
    large = texture(0, (300, 400))
    config = RefineConfig(image_side=side)
    pair = [detect_keypoints(image, config) for image in (large[30:270, 40:360], large[37:277, 28:348])]
    chosen = match_keypoints(*pair)
    assert len(chosen) > 30
    moved = pair[1].points[chosen[:, 1]] - pair[0].points[chosen[:, 0]]
    off = np.linalg.norm(moved - [12, -7], axis=1)
    assert np.median(off) < 0.3 and np.mean(off < 1.5) > 0.9


def test_no_more_keypoints_than_asked_for_and_none_on_a_wall():
    assert 20 < len(detect_keypoints(texture(1), RefineConfig(max_keypoints=50)).points) <= 51  # SIFT keeps ties
    assert not len(detect_keypoints(np.full((240, 320, 3), 130, np.uint8), CONFIG).points)


@pytest.mark.parametrize("size", [(16, 16), (16, 16384), (16384, 16), (2000, 3000)])
def test_images_of_any_size_are_searched(size):
    points = detect_keypoints(np.resize(texture(2), (*size, 3)), CONFIG).points
    assert ((points > -1) & (points < size[::-1])).all()


def test_images_of_different_things_do_not_match():
    frames = [Frame(texture(seed), seed) for seed in range(4)]
    assert sum(len(pair.first_points) for pair in match(frames)) < 15


def match(frames, cache=None):
    return (cache or Correspondences()).match(frames, np.repeat(K[None], len(frames), axis=0), CONFIG)


def test_windows_that_share_frames_share_their_keypoints(monkeypatch):
    seen = []

    def count(rgb, config):
        seen.append(rgb)
        return detect_keypoints(rgb, config)

    monkeypatch.setattr(correspondences, "detect_keypoints", count)
    large = texture(3, (300, 400))
    frames = [Frame(np.ascontiguousarray(large[i : i + 240, 2 * i : 2 * i + 320]), i) for i in range(12)]
    cache = Correspondences()
    first = match(frames[:8], cache)
    assert len(seen) == 8 and {(pair.first, pair.second) for pair in first} >= {(0, 1), (0, 2), (0, 4), (3, 7)}
    cache.keep_only(frames[4:])
    match(frames[4:], cache)
    assert len(seen) == 12
    match(frames[:4], cache)
    assert len(seen) == 16


@pytest.fixture(scope="module")
def room():
    """A window of a procedural room, with exact depth, and camera poses in the frame of the first camera."""
    sample = room_sample(3, "test", frames=12, tasks=0)
    return sample, np.linalg.inv(sample.T_world_camera[0]) @ sample.T_world_camera


def reconstruction(sample, T_window_camera) -> Reconstruction:
    return Reconstruction(
        stamps_ns=tuple(range(len(sample.rgb))),
        frame_ids=("camera",) * len(sample.rgb),
        T_window_camera=T_window_camera,
        intrinsics=sample.intrinsics,
        depth=sample.depth,
        confidence=np.ones_like(sample.depth),
        rgb=sample.rgb,
        scale=1.0,
        scale_spread=0.0,
        semantic_tokens=torch.zeros(len(sample.rgb), 1, 1),
    )


def mean_errors(T_window_camera, truth) -> tuple[float, float]:
    """Over all pairs of views, degrees; of the camera's place, metres."""
    pairs = relative_pose_errors(invert(T_window_camera), invert(truth))
    return pairs.rotation.mean(), np.linalg.norm(T_window_camera[:, :3, 3] - truth[:, :3, 3], axis=1).mean()


def test_a_camera_that_was_thought_to_stand_still_is_found_to_move(room):
    sample, truth = room
    frames = [Frame(image, index) for index, image in enumerate(sample.rgb)]
    still = reconstruction(sample, np.tile(np.eye(4), (len(truth), 1, 1)))
    found = refine(still, Correspondences().match(frames, sample.intrinsics, CONFIG))
    degrees, metres = mean_errors(found.T_window_camera, truth)
    degrees_still, metres_still = mean_errors(still.T_window_camera, truth)
    assert degrees < 0.3 * degrees_still and metres < 0.5 * metres_still
    np.testing.assert_array_equal(found.T_window_camera[0], np.eye(4))
    ratio = found.depth[sample.depth > 0] / sample.depth[sample.depth > 0]
    assert ratio.min() > 0.85 and ratio.max() < 1.15


def test_without_matches_or_depth_nothing_changes(room):
    sample, truth = room
    given = reconstruction(sample, truth)
    assert refine(given, []) is given
    frames = [Frame(image, index) for index, image in enumerate(sample.rgb)]
    pairs = Correspondences().match(frames, sample.intrinsics, CONFIG)
    blind = Reconstruction(**{**vars(given), "depth": np.zeros_like(given.depth)})
    assert refine(blind, pairs) is blind


def test_the_bundled_model_s_cameras_become_better(room):
    """The same window through the pipeline, with and without; ``refine.enabled`` decides."""
    sample, truth = room
    model = VidLLM.from_pretrained(NANO)
    errors = {}
    for enabled in (False, True):
        changes = {"window.size": 12, "window.stride": 12, "refine.enabled": enabled, "window.min_motion": 0.0}
        pipeline = Pipeline(model, PerceptionConfig().replace(changes))
        for index, image in enumerate(sample.rgb):
            pipeline.accept(Frame(image, index * 250_000_000, "camera", sample.intrinsics[index]))
        result = pipeline.process(pipeline.next_window())
        errors[enabled] = mean_errors(result.reconstruction.T_window_camera, truth)
    assert errors[True][0] < 0.6 * errors[False][0], errors
    assert errors[True][1] < errors[False][1], errors
