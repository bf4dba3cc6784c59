"""The camera walks through free space, smoothly."""

import numpy as np
import pytest

from vidllm_ros.training.rooms import STYLES, room_video


def footprint_distance(points, box) -> np.ndarray:
    """Metres [N] on the floor plan from points [N, 2] to a box; 0 inside."""
    local = (points - box.center[:2]) @ box.rotation[:2, :2]
    return np.linalg.norm(np.maximum(np.abs(local) - box.size[:2] / 2, 0), axis=1)


@pytest.mark.parametrize("style", STYLES)
def test_camera_never_touches_anything(style):
    for seed in range(80):
        video = room_video(seed, "train", 24, (42, 56), style=style)
        points = video.T_world_camera[:, :2, 3]
        length, width, height = video.room.size
        walls = np.stack([points[:, 0], points[:, 1], length - points[:, 0], width - points[:, 1]])
        assert walls.min() > 0.2, seed
        assert video.T_world_camera[:, 2, 3].min() > 0.5 and video.T_world_camera[:, 2, 3].max() < height - 0.3
        for box in video.boxes:
            assert footprint_distance(points, box).min() > 0.2, (seed, box.label)


def steps(poses):
    """Metres and degrees between successive poses."""
    turns = poses[:-1, :3, :3].transpose(0, 2, 1) @ poses[1:, :3, :3]
    angle = np.degrees(np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    return np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1), angle


def test_steps_are_those_of_a_walk():
    metres, degrees = zip(*(steps(room_video(s, "train", 32, (42, 56)).T_world_camera) for s in range(40)), strict=True)
    metres, degrees = np.concatenate(metres), np.concatenate(degrees)
    assert metres.max() < 0.15 and degrees.max() < 8
    assert 0.04 < np.median(metres) < 0.1 and 2 < np.median(degrees) < 5.5
    assert (metres > 0.02).mean() > 0.95


def test_a_faster_rate_takes_smaller_steps():
    slow = np.median(np.concatenate([steps(room_video(s, "val", 24, (42, 56)).T_world_camera)[0] for s in range(10)]))
    fast = np.median(
        np.concatenate([steps(room_video(s, "val", 96, (42, 56), rate_hz=16).T_world_camera)[0] for s in range(10)])
    )
    assert fast == pytest.approx(slow / 4, rel=0.3)


def test_a_window_explores_the_room():
    spans = []
    for seed in range(30):
        poses = room_video(seed, "train", 32, (42, 56)).T_world_camera
        yaw = np.unwrap(np.arctan2(poses[:, 1, 2], poses[:, 0, 2]))
        spans.append(np.degrees(np.ptp(yaw)))
    assert np.median(spans) > 60
