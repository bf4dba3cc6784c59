"""Windows placed by outside poses."""

from __future__ import annotations

import numpy as np
import pytest

from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.mapping.anchoring import check_poses, place_by_poses

INDICES = list(range(16))


def truth(room):
    return np.stack([room.camera(index) for index in INDICES])


def test_poses_of_all_frames_give_place_and_scale(room):
    anchor = place_by_poses(room.reconstruct(INDICES, 1.3), truth(room), PerceptionConfig())
    assert anchor.problem == "" and anchor.external_scale
    assert anchor.placement.scale_ratio == pytest.approx(1 / 1.3, rel=1e-6)
    np.testing.assert_allclose(anchor.placement.T_map_camera, truth(room), atol=1e-6)


def test_unknown_poses_are_left_out(room):
    poses = truth(room)
    poses[[0, 3, 7]] = np.nan
    anchor = place_by_poses(room.reconstruct(INDICES, 1.3), poses, PerceptionConfig())
    assert anchor.external_scale
    np.testing.assert_allclose(anchor.placement.T_map_camera, truth(room), atol=1e-6)


def test_one_pose_places_the_window_with_its_own_metres(room):
    poses = check_poses(room.camera(0), len(INDICES))
    anchor = place_by_poses(room.reconstruct(INDICES, 1.3), poses, PerceptionConfig())
    assert not anchor.external_scale and anchor.placement.scale_ratio == 1.0
    np.testing.assert_allclose(anchor.placement.T_map_window, room.camera(0), atol=1e-12)


def test_poses_that_hardly_move_say_nothing_about_scale(room):
    config = PerceptionConfig().replace({"scale.min_anchor_motion": 50.0})
    anchor = place_by_poses(room.reconstruct(INDICES, 1.3), truth(room), config)
    assert not anchor.external_scale and anchor.placement.scale_ratio == 1.0


def test_poses_of_another_motion_are_refused(room):
    poses = np.stack([room.camera(-2 * index) for index in INDICES])
    anchor = place_by_poses(room.reconstruct(INDICES), poses, PerceptionConfig())
    assert "outside poses" in anchor.problem
    np.testing.assert_allclose(anchor.placement.T_map_window, poses[0], atol=1e-12)


@pytest.mark.parametrize(
    "poses",
    [np.eye(3), np.full((4, 4), np.nan), 2 * np.eye(4), np.tile(np.eye(4), (5, 1, 1)), np.diag([1.0, 1.0, -1.0, 1.0])],
)
def test_what_is_no_pose_is_refused(poses):
    with pytest.raises(ValueError, match="outside poses"):
        check_poses(poses, 16)
