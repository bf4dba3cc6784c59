"""Where windows go: first, stitched, anchored, rejected, and how the map recovers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.mapping.builder import MapBuilder, window_warnings
from vidllm_ros.perception.types import ScaleSource, WindowStatus

# Exact depth deserves a stricter limit than the bundled model's.
CONFIG = PerceptionConfig().replace({"cloud.min_confidence": 0.0, "stitch.max_residual": 0.1})
FRAME_STEP_NS = 250_000_000
BAD_DEPTH = 20  # cameras this many steps on see something else


class Walk:
    """Feeds windows of a walk through the room to a MapBuilder as the pipeline does."""

    def __init__(self, room, make_window, model, config=CONFIG):
        self.room, self.make_window = room, make_window
        self.builder = MapBuilder(model, config)
        self.id = 0

    def window(self, start, scale=1.0, spread=0.02, bad=False, shared=8, hide_floor=False, **outside):
        indices = list(range(start, start + 16))
        reconstruction = self.room.reconstruct(indices, scale, spread)
        if bad:
            elsewhere = self.room.reconstruct([index + BAD_DEPTH for index in indices], scale)
            reconstruction = replace(reconstruction, depth=elsewhere.depth)
        if hide_floor:
            heights = np.stack([self.room.world_points(self.room.camera(index))[..., 2] for index in indices])
            reconstruction = replace(reconstruction, depth=np.where(heights < 0.05, 0, reconstruction.depth))
        window = self.make_window(indices, shared)
        decision = self.builder.place(window, reconstruction, **outside)
        cloud = self.builder.add(self.id, window, decision)
        self.id += 1
        return decision, cloud

    def pose_error(self, decision, start):
        """Metres and degrees between the map's cameras and the true ones, given the first window began the map at 0."""
        offset = self.T_map_world
        worst = np.zeros(2)
        for index, pose in enumerate(decision.placement.T_map_camera):
            true = offset @ self.room.camera(start + index)
            angle = np.degrees(Rotation.from_matrix(pose[:3, :3] @ true[:3, :3].T).magnitude())
            worst = np.maximum(worst, [np.linalg.norm(pose[:3, 3] - true[:3, 3]), angle])
        return worst

    @property
    def T_map_world(self):
        """Level map at camera 0: its position and heading, from the room's own numbers."""
        camera = self.room.camera(0)
        heading = np.arctan2(camera[1, 2], camera[0, 2])
        T_world_map = np.eye(4)
        T_world_map[:3, :3] = Rotation.from_euler("z", heading).as_matrix()
        T_world_map[:3, 3] = camera[:3, 3]
        return np.linalg.inv(T_world_map)


@pytest.fixture(scope="module")
def geometry_model():
    """A real network without a language half: mapping alone needs none."""
    from dataclasses import replace as change

    from vidllm_ros.model import VidLLM
    from vidllm_ros.model.sizes import nano

    return VidLLM(change(nano(), patches=None, language=None, grounding=None))


@pytest.fixture
def walk(room, make_window, geometry_model):
    return Walk(room, make_window, geometry_model)


def snapshot(builder):
    return builder.voxels.cloud().points.copy(), builder.path.poses()[1].copy()


def test_a_walk_of_exact_windows_gives_the_true_map(walk, room):
    for start in (0, 8, 16, 24):
        decision, cloud = walk.window(start)
        metres, degrees = walk.pose_error(decision, start)
        assert metres < 0.02 and degrees < 0.3  # what the floor plane leaves of the tilt
        expected = WindowStatus.FIRST if start == 0 else WindowStatus.STITCHED
        assert decision.status is expected and decision.reason == "" and decision.gravity_source == "floor"
        assert decision.scale_source is ScaleSource.METRIC
        assert decision.placement.scale_ratio == pytest.approx(1.0, abs=1e-6)
        assert len(cloud) > 1000
    stamps, _ = walk.builder.path.poses()
    assert stamps.tolist() == [index * 250_000_000 for index in range(40)]
    world = walk.builder.voxels.cloud().points @ np.linalg.inv(walk.T_map_world)[:3, :3].T + room.camera(0)[:3, 3]
    assert (world > -0.1).all() and (world < np.array(room.extent) + 0.1).all()


def test_another_scale_is_reported_and_undone(walk):
    walk.window(0)
    decision, _ = walk.window(8, scale=1.3)
    assert decision.status is WindowStatus.STITCHED
    assert decision.placement.scale_ratio == pytest.approx(1 / 1.3, rel=1e-3)
    assert walk.pose_error(decision, 8)[0] < 0.02


def test_a_rejected_window_leaves_the_map_as_it_was_and_the_next_recovers(walk):
    walk.window(0)
    before = snapshot(walk.builder)
    decision, cloud = walk.window(8, bad=True)
    assert decision.status is WindowStatus.REJECTED and "stitch.max_" in decision.reason
    assert len(cloud) == 0
    for old, new in zip(before, snapshot(walk.builder), strict=True):
        np.testing.assert_array_equal(old, new)
    # The window buffer overlaps the last placed window again; here simply the same frames, seen well.
    decision, _ = walk.window(8)
    assert decision.status is WindowStatus.STITCHED
    assert walk.pose_error(decision, 8)[0] < 0.02
    assert len(walk.builder.path) == 24


def test_a_rejected_window_still_says_where_its_cameras_probably_are(walk):
    walk.window(0)
    decision, _ = walk.window(8, bad=True)
    assert walk.pose_error(decision, 8)[0] < 0.02  # only its depth was wrong here


def test_after_too_many_rejections_the_map_starts_again(walk):
    walk.window(0)
    statuses = [walk.window(8, bad=True)[0].status for _ in range(2)]
    assert statuses == [WindowStatus.REJECTED] * 2
    decision, _ = walk.window(8, bad=True)
    assert decision.status is WindowStatus.FIRST
    assert "the map starts again" in decision.warnings[-1]
    assert [key for key, _ in walk.builder.history] == [3]
    assert len(walk.builder.path) == 16


def test_a_cut_starts_the_map_again(walk):
    walk.window(0)
    walk.window(8)
    decision, _ = walk.window(100, shared=0)
    assert decision.status is WindowStatus.FIRST
    np.testing.assert_allclose(decision.placement.T_map_window[:3, 3], 0)
    assert len(walk.builder.path) == 16 and len(walk.builder.history) == 1


def test_an_outside_pose_anchors_and_bridges_a_cut(walk, room):
    decision, _ = walk.window(0, T_map_cameras=anchors(room, 0))
    assert decision.status is WindowStatus.ANCHORED and decision.gravity_source == "tf"
    decision, _ = walk.window(100, shared=0, T_map_cameras=anchors(room, 100))
    assert decision.status is WindowStatus.ANCHORED
    np.testing.assert_allclose(decision.placement.T_map_camera[3], room.camera(103), atol=1e-6)
    assert len(walk.builder.history) == 2 and len(walk.builder.path) == 32


def anchors(room, start, known=16):
    poses = np.stack([room.camera(start + index) for index in range(16)])
    poses[known:] = np.nan
    return poses


def test_without_a_pose_an_anchored_map_goes_on_by_stitching(walk, room):
    walk.window(0, T_map_cameras=anchors(room, 0))
    decision, _ = walk.window(8)
    assert decision.status is WindowStatus.STITCHED
    np.testing.assert_allclose(decision.placement.T_map_camera[15], room.camera(23), atol=1e-3)


def test_the_first_outside_pose_starts_a_new_map(walk, room):
    walk.window(0)
    decision, _ = walk.window(8, T_map_cameras=anchors(room, 8))
    assert decision.status is WindowStatus.ANCHORED and len(walk.builder.history) == 1
    assert len(walk.builder.path) == 16


def test_the_scale_comes_from_poses_that_move(walk, room):
    decision, _ = walk.window(0, scale=1.3, spread=0.5, T_map_cameras=anchors(room, 0))
    assert decision.scale_source is ScaleSource.EXTERNAL
    assert decision.placement.scale_ratio == pytest.approx(1 / 1.3, rel=1e-4)
    decision, _ = walk.window(8, T_map_cameras=anchors(room, 8, known=1))
    assert decision.scale_source is ScaleSource.METRIC and decision.placement.scale_ratio == 1.0


def test_contradicting_outside_poses_reject_the_window(walk, room):
    walk.window(0, T_map_cameras=anchors(room, 0))
    before = snapshot(walk.builder)
    decision, cloud = walk.window(8, T_map_cameras=anchors(room, 8)[::-1].copy())
    assert decision.status is WindowStatus.REJECTED and "outside poses" in decision.reason and len(cloud) == 0
    for old, new in zip(before, snapshot(walk.builder), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_unreliable_scale_is_said_and_follows_the_map(walk):
    walk.window(0)
    decision, _ = walk.window(8, scale=1.04, spread=0.3)
    assert decision.scale_source is ScaleSource.UNRELIABLE
    assert "scale.max_spread" in decision.warnings[0]
    assert decision.placement.scale_ratio == pytest.approx(1 / 1.04, rel=1e-3)
    assert walk.window(16)[0].scale_source is ScaleSource.METRIC


def test_a_map_without_reliable_metres_takes_those_of_the_first_reliable_window(walk):
    walk.window(0, scale=1.6, spread=0.4)
    walk.window(8, scale=1.5, spread=0.4)
    decision, _ = walk.window(16)
    assert decision.status is WindowStatus.STITCHED and decision.scale_source is ScaleSource.METRIC
    assert decision.placement.scale_ratio == pytest.approx(1.0, rel=1e-6)
    assert any("rescaled" in warning for warning in decision.warnings)
    assert walk.pose_error(decision, 16)[0] < 0.03
    stamps, poses = walk.builder.path.poses()
    for stamp, pose in zip(stamps, poses, strict=True):
        true = walk.T_map_world @ walk.room.camera(stamp / 250_000_000)
        np.testing.assert_allclose(pose[:3, 3], true[:3, 3], atol=0.03)
    for _, placed in walk.builder.history:
        true = walk.T_map_world @ walk.room.camera(placed.reconstruction.stamps_ns[3] / 250_000_000)
        np.testing.assert_allclose(placed.T_map_camera[3, :3, 3], true[:3, 3], atol=0.03)


def test_history_is_capped(walk):
    for start in range(0, 56, 8):
        walk.window(start)
    assert [key for key, _ in walk.builder.history] == [3, 4, 5, 6]
    walk.builder.configure(CONFIG.replace({"window.history": 2}))
    assert [key for key, _ in walk.builder.history] == [5, 6]


def test_the_map_can_be_switched_off(room, make_window, geometry_model):
    walk = Walk(room, make_window, geometry_model, CONFIG.replace({"map.enabled": False}))
    _, cloud = walk.window(0)
    assert len(cloud) > 0 and len(walk.builder.voxels) == 0 and len(walk.builder.path) == 16


def test_warnings_name_motion_and_lens(room):
    still = room.reconstruct([5] * 8)
    assert any("the camera moved 0.000 m" in warning for warning in window_warnings(still, CONFIG))
    odd = replace(room.reconstruct(list(range(8))), focal_ratio=1.4)
    assert any(
        "1.40 times" in warning and "camera.max_focal_error" in warning for warning in window_warnings(odd, CONFIG)
    )
    assert window_warnings(room.reconstruct(list(range(8))), CONFIG) == ()


def test_a_map_that_began_tilted_is_levelled_little_by_little(walk, room):
    """The first window sees no floor; those that follow do, and everything placed turns with the map."""
    blind = walk.window(0, hide_floor=True)[0]
    assert blind.gravity_source == "assumed level" and any("which way is up" in text for text in blind.warnings)
    tilts = []
    for start in (8, 16, 24, 32, 40, 48, 56, 64):
        decision, _ = walk.window(start)
        T_map_world = decision.placement.T_map_camera[0] @ np.linalg.inv(room.camera(start))
        tilts.append(np.degrees(np.arccos(T_map_world[2, 2])))
    assert tilts[0] > 8 and tilts[-1] < 1.0
    assert max(abs(np.diff(tilts))) < 3.1, "smoothly"
    assert decision.gravity_source == "floor"
    stamps, poses = walk.builder.path.poses()
    for stamp, pose in zip(stamps, poses, strict=True):
        T_map_world = pose @ np.linalg.inv(room.camera(round(stamp / FRAME_STEP_NS)))
        assert np.degrees(np.arccos(min(T_map_world[2, 2], 1.0))) < 1.2
    floor = walk.builder.voxels.cloud().points
    lowest = np.sort(floor[:, 2])[: len(floor) // 10]
    assert lowest.std() < 0.05, "the floor in the map is level"
