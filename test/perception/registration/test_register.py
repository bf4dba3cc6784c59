"""Points followed through images, and windows refined by them: on images whose geometry is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from vidllm_ros.checkpoints import NANO
from vidllm_ros.evaluation.metrics.poses import relative_pose_errors
from vidllm_ros.evaluation.metrics.trajectory import ate
from vidllm_ros.evaluation.recordings import truth
from vidllm_ros.evaluation.recordings.bags import Bag
from vidllm_ros.model import VidLLM
from vidllm_ros.perception.config import PerceptionConfig, RegisterConfig
from vidllm_ros.perception.geometry.transforms import invert
from vidllm_ros.perception.pipeline import Pipeline
from vidllm_ros.perception.registration.register import register
from vidllm_ros.perception.registration.tracks import PointTracks, Tracks
from vidllm_ros.perception.types import Frame, Reconstruction, WindowStatus
from vidllm_ros.training.rooms import room_sample

CONFIG = RegisterConfig()


def texture(seed: int, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    noise = np.random.default_rng(seed).random((size[0] // 12, size[1] // 12, 3))
    return (cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)


def panned(count: int, right: int = 4, down: int = 2) -> list[Frame]:
    """Frames that show ever more of the right and the lower part of a picture."""
    large = texture(0, (300, 600))
    return [Frame(large[down * i : down * i + 240, right * i : right * i + 320].copy(), i) for i in range(count)]


def both(tracks: PointTracks, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the points that two frames see both, [M, 2] each."""
    of = [tracks.point[tracks.frame == frame] for frame in (first, second)]
    _, a, b = np.intersect1d(*of, return_indices=True)
    return tracks.pixels[tracks.frame == first][a], tracks.pixels[tracks.frame == second][b]


@pytest.mark.parametrize("side", [84, 112, 400])
def test_points_follow_the_image(side):
    tracks = Tracks().find(panned(6), RegisterConfig(image_side=side))
    assert set(tracks.frame) == set(range(6))
    for first, gap in ((0, 1), (1, 2), (0, 5)):
        before, after = both(tracks, first, first + gap)
        off = np.linalg.norm(after - before - [-4 * gap, -2 * gap], axis=1)
        assert len(off) > 40 and np.median(off) < 0.3 and np.mean(off < 1.5) > 0.9


def test_every_point_is_seen_at_least_twice_and_its_sightings_stand_together():
    tracks = Tracks().find(panned(6), CONFIG)
    assert np.bincount(tracks.point).min() >= 2
    assert (np.diff(tracks.point) >= 0).all()
    assert (np.diff(tracks.frame)[np.diff(tracks.point) == 0] > 0).all()


def test_no_more_points_than_asked_for_and_none_on_a_wall():
    tracks = Tracks().find(panned(2), RegisterConfig(max_points=30))
    assert 15 < tracks.point.max() + 1 <= 30
    wall = Frame(np.full((240, 320, 3), 130, np.uint8), 0), Frame(np.full((240, 320, 3), 131, np.uint8), 1)
    assert not len(Tracks().find(wall, CONFIG).point)


@pytest.mark.parametrize("size", [(16, 16), (16, 16384), (16384, 16), (2000, 3000)])
def test_images_of_any_size_are_searched(size):
    frames = [Frame(np.resize(texture(seed), (*size, 3)), seed) for seed in (2, 2)]
    pixels = Tracks().find(frames, CONFIG).pixels
    assert ((pixels > -1) & (pixels < size[::-1])).all()


def test_images_of_different_things_have_little_in_common():
    """What is followed by mistake is little of the 160 points or so that each image has."""
    frames = [Frame(texture(seed), seed) for seed in range(5)]
    tracks = Tracks().find(frames, CONFIG)
    assert all(len(both(tracks, first, first + 1)[0]) < 32 for first in range(4))


def test_a_camera_that_changes_its_size_starts_anew():
    frames = [*panned(2), *(Frame(texture(0, (300, 300)), 2 + i) for i in range(2))]
    tracks = Tracks().find(frames, CONFIG)
    assert len(both(tracks, 0, 1)[0]) and len(both(tracks, 2, 3)[0])
    assert not any(len(both(tracks, first, second)[0]) for first in (0, 1) for second in (2, 3))


def test_windows_that_share_frames_share_their_points():
    """What is known of eight frames is kept for the next window, whose new frames go on from there."""
    frames = panned(12)
    tracks = Tracks()
    tracks.find(frames[:8], CONFIG)
    tracks.keep_only(frames[4:])
    assert len(tracks) == 4
    later = tracks.find(frames[4:], CONFIG)
    assert len(tracks) == 8
    before, after = both(later, 3, 5)
    assert len(before) > 40 and np.median(np.linalg.norm(after - before - [-8, -4], axis=1)) < 0.3


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
    found = register(still, Tracks().find(frames, CONFIG))
    degrees, metres = mean_errors(found.T_window_camera, truth)
    degrees_still, metres_still = mean_errors(still.T_window_camera, truth)
    assert degrees < 0.3 * degrees_still and metres < 0.5 * metres_still
    np.testing.assert_array_equal(found.T_window_camera[0], np.eye(4))
    ratio = found.depth[sample.depth > 0] / sample.depth[sample.depth > 0]
    assert ratio.min() > 0.85 and ratio.max() < 1.15


def test_without_matches_or_depth_nothing_changes(room):
    sample, truth = room
    given = reconstruction(sample, truth)
    nothing = PointTracks(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2)))
    found = register(given, nothing)
    np.testing.assert_array_equal(found.T_window_camera, truth)
    assert found.adjustment.problem
    frames = [Frame(image, index) for index, image in enumerate(sample.rgb)]
    tracks = Tracks().find(frames, CONFIG)
    blind = Reconstruction(**{**vars(given), "depth": np.zeros_like(given.depth)})
    found = register(blind, tracks)
    np.testing.assert_array_equal(found.T_window_camera, truth)
    assert found.adjustment.problem


def test_images_of_different_things_are_no_reason_to_believe_cameras(room):
    """Twelve different pictures: it is said that the images bear nothing out."""
    sample, truth = room
    frames = [Frame(texture(seed, (84, 112)), seed) for seed in range(len(truth))]
    tracks = Tracks().find(frames, CONFIG)
    found = register(reconstruction(sample, truth), tracks)
    assert found.adjustment.problem


def test_the_bundled_model_s_cameras_become_better(room):
    """The same window through the pipeline, with and without; ``register.enabled`` decides."""
    sample, truth = room
    model = VidLLM.from_pretrained(NANO)
    errors = {}
    for enabled in (False, True):
        changes = {
            "window.size": 12,
            "window.stride": 12,
            "refine.enabled": False,
            "register.enabled": enabled,
            "window.min_motion": 0.0,
        }
        pipeline = Pipeline(model, PerceptionConfig().replace(changes))
        for index, image in enumerate(sample.rgb):
            pipeline.accept(Frame(image, index * 250_000_000, "camera", sample.intrinsics[index]))
        result = pipeline.process(pipeline.next_window())
        errors[enabled] = mean_errors(result.reconstruction.T_window_camera, truth)
    assert errors[True][0] < 0.6 * errors[False][0], errors
    assert errors[True][1] < errors[False][1], errors


@pytest.mark.slow
def test_windows_of_a_camera_that_is_turned_by_hand_fit_together(recorded_data):
    """TUM fr1/rpy: fast turns, where the network is tens of degrees off and barely half of the matches fit at first."""
    pipeline = Pipeline(
        VidLLM.from_pretrained(NANO),
        PerceptionConfig().replace({"window.sample_rate": 60.0, "register.enabled": True, "register.reject": False}),
    )
    results = []
    with Bag(recorded_data("tum_fr1_rpy_bag")) as bag:
        known = truth.load(bag)
        for frame in bag.frames():
            data = bag.decode(frame.image, "/camera/color/image_raw/compressed").data
            camera = bag.decode(frame.camera_info, "/camera/color/camera_info")
            matrix = np.reshape(camera.k, (3, 3))
            rgb = cv2.cvtColor(cv2.imdecode(np.asarray(data), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            rgb = cv2.undistort(rgb, matrix, np.asarray(camera.d))
            window = pipeline.accept(Frame(rgb, frame.stamp_ns, intrinsics=matrix))
            if window is not None:
                results.append(pipeline.process(window))
    while (window := pipeline.flush()) is not None:
        results.append(pipeline.process(window))
    assert [result.status for result in results] == [WindowStatus.FIRST] + [WindowStatus.STITCHED] * 2
    stamps, poses = pipeline.path
    own = poses[np.isin(stamps, known.stamps_ns)]
    true = known.T_world_camera[np.isin(known.stamps_ns, stamps)]
    assert len(own) > 50 and ate(own, true, "se3").rmse < 0.12
