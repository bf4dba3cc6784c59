"""Windows that cannot be trusted end in a stated status: no texture, half the image moving, and what is rejected."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vidllm_ros.model.config import NoiseConfig
from vidllm_ros.perception.config import RegisterConfig
from vidllm_ros.perception.geometry.transforms import compose, invert
from vidllm_ros.perception.registration.register import register
from vidllm_ros.perception.registration.tracks import Tracks
from vidllm_ros.perception.types import Frame, Reconstruction

FRAMES, HEIGHT, WIDTH = 10, 240, 320
K = np.array([[280.0, 0, 159.5], [0, 280.0, 119.5], [0, 0, 1]])


def wall(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).random((90, 120, 3))
    return (cv2.resize(noise, (1200, 900), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)


def window(turns, shifts, picture=None) -> tuple[list[Frame], Reconstruction]:
    """A camera before a wall 2 m away that shows a picture 6 m wide; the truth as its reconstruction."""
    picture = wall() if picture is None else picture
    rotations = Rotation.from_euler("y", np.asarray(turns)[:, None], degrees=True).as_matrix()
    poses = np.stack([compose(turn, shift) for turn, shift in zip(rotations, shifts, strict=True)])
    to_wall = np.array([[0.005, 0, -3.0], [0, 0.005, -2.25], [0, 0, 2.0]])  # pixels of the picture to the window
    frames, depths = [], []
    for index, pose in enumerate(poses):
        own = invert(pose)
        homography = K @ (own[:3, :3] @ to_wall + np.outer(own[:3, 3], [0, 0, 1]))
        image = cv2.warpPerspective(picture, homography, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        v, u = np.mgrid[:HEIGHT, :WIDTH]
        rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(K).T
        depths.append((2.0 - pose[2, 3]) / (rays @ pose[2, :3]))
        frames.append(Frame(image, index, intrinsics=K))
    return frames, Reconstruction(
        stamps_ns=tuple(range(len(frames))),
        frame_ids=("camera",) * len(frames),
        T_window_camera=poses,
        intrinsics=np.tile(K, (len(frames), 1, 1)),
        depth=np.stack(depths).astype(np.float32),
        confidence=np.ones((len(frames), HEIGHT, WIDTH), np.float32),
        rgb=np.stack([frame.rgb for frame in frames]),
        scale=1.0,
        scale_spread=0.0,
        semantic_tokens=torch.zeros(len(frames), 1, 1),
        noise=NoiseConfig(depth=0.01, depth_frame=0.004),
    )


def moving() -> tuple[list[Frame], Reconstruction]:
    steps = np.arange(FRAMES)
    return window(1.0 * steps, np.stack([0.03 * steps, 0 * steps, 0.01 * steps], axis=1))


def forgotten(given: Reconstruction) -> Reconstruction:
    """As if the camera had not moved."""
    noise = replace(given.noise, rotation_deg=60.0, translation=2.0)
    return replace(given, T_window_camera=np.tile(np.eye(4), (FRAMES, 1, 1)), noise=noise)


def errors(found: Reconstruction, truth: Reconstruction) -> tuple[float, float]:
    """Largest error of a camera: degrees, metres."""
    difference = invert(truth.T_window_camera) @ found.T_window_camera
    degrees = np.degrees(Rotation.from_matrix(difference[:, :3, :3]).magnitude())
    return float(degrees.max()), float(np.linalg.norm(difference[:, :3, 3], axis=1).max())


def test_one_plane_with_depth_gives_the_cameras_from_nothing():
    frames, truth = moving()
    found = register(forgotten(truth), Tracks().find(frames, RegisterConfig()))
    degrees, metres = errors(found, truth)
    assert degrees < 0.1 and metres < 0.005
    assert found.adjustment.taken and not found.adjustment.problem and found.adjustment.fitting > 0.9


def test_exact_cameras_stay_as_they_are():
    frames, truth = moving()
    found = register(truth, Tracks().find(frames, RegisterConfig()))
    degrees, metres = errors(found, truth)
    assert degrees < 0.05 and metres < 0.003


def test_a_camera_that_only_turns_is_seen_to():
    frames, truth = window(2.0 * np.arange(FRAMES), np.zeros((FRAMES, 3)))
    found = register(forgotten(truth), Tracks().find(frames, RegisterConfig()))
    degrees, metres = errors(found, truth)
    assert degrees < 0.2 and metres < 0.01
    assert found.adjustment.parallax < 0.3


def test_a_still_camera_stands_still():
    frames, truth = window(np.zeros(FRAMES), np.zeros((FRAMES, 3)))
    found = register(truth, Tracks().find(frames, RegisterConfig()))
    assert max(errors(found, truth)) < 0.01 and found.adjustment.parallax < 0.1


def test_without_texture_the_cameras_are_not_believed():
    frames, truth = moving()
    frames = [replace(frame, rgb=np.full_like(frame.rgb, 128)) for frame in frames]
    found = register(replace(truth, rgb=np.full_like(truth.rgb, 128)), Tracks().find(frames, RegisterConfig()))
    assert found.adjustment.problem


def test_when_half_of_the_image_moves_the_cameras_are_right_or_not_believed():
    frames, truth = moving()
    _, other = window(-1.5 * np.arange(FRAMES), np.zeros((FRAMES, 3)), wall(1))
    images = [
        np.where(np.arange(WIDTH)[:, None] < WIDTH // 2, f.rgb, o) for f, o in zip(frames, other.rgb, strict=True)
    ]
    frames = [replace(frame, rgb=np.ascontiguousarray(image)) for frame, image in zip(frames, images, strict=True)]
    found = register(replace(forgotten(truth), rgb=np.stack(images)), Tracks().find(frames, RegisterConfig()))
    assert errors(found, truth)[0] < 1.0 or found.adjustment.problem


@pytest.mark.parametrize("factor", [0.6, 1.6])
def test_with_a_wrong_focal_length_errors_stay_within_what_is_stated(factor):
    frames, truth = moving()
    lens = np.diag([factor, factor, 1.0])
    intrinsics = truth.intrinsics @ lens
    found = register(replace(forgotten(truth), intrinsics=intrinsics), Tracks().find(frames, RegisterConfig()))
    assert found.adjustment.problem or errors(found, truth)[0] < 15


def test_stated_deviations_hold_the_errors():
    frames, truth = moving()
    found = register(forgotten(truth), Tracks().find(frames, RegisterConfig()))
    shift = found.T_window_camera[1:, :3, 3] - truth.T_window_camera[1:, :3, 3]
    deviations = np.sqrt(np.diagonal(found.covariance[1:], axis1=1, axis2=2))
    assert (np.abs(shift) < 3 * deviations[:, :3]).all() and deviations.max() < 0.05
    np.testing.assert_array_equal(found.covariance[0], 0)
