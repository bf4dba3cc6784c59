"""The whole path with the real network (random weights): frames in, map and answers out."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from vidllm_ros.perception.config import PerceptionConfig
from vidllm_ros.perception.errors import (
    DropReason,
    FrameRejected,
    NoWindowError,
    StaleWindowError,
)
from vidllm_ros.perception.pipeline import Pipeline
from vidllm_ros.perception.types import WindowStatus

STEP = 250_000_000


def test_windows_become_points_poses_and_ids(pipeline, run):
    results = run(pipeline, range(12))
    assert [result.window_id for result in results] == [0, 1, 2]
    assert [result.status for result in results] == [WindowStatus.FIRST] + [WindowStatus.STITCHED] * 2
    for result in results:
        assert len(result.points) > 0 and np.isfinite(result.points).all()
        assert len(result.points) == len(result.colors) == len(result.point_confidence)
        poses = result.T_map_camera
        np.testing.assert_allclose(
            poses[:, :3, :3] @ poses[:, :3, :3].swapaxes(1, 2), np.tile(np.eye(3), (6, 1, 1)), atol=1e-9
        )
    points, colors = pipeline.map_points()
    assert len(points) == len(colors) > 0 and np.isfinite(points).all()


def test_every_accepted_frame_has_a_pose(pipeline, run):
    run(pipeline, range(14))
    while (window := pipeline.flush()) is not None:
        pipeline.process(window)
    stamps, poses = pipeline.path
    assert stamps.tolist() == [index * STEP for index in range(14)]
    assert np.isfinite(poses).all()
    assert pipeline.stats.used == 14 and pipeline.stats.waiting == 0


def test_shared_cameras_keep_their_place_when_the_next_window_is_stitched(pipeline, run):
    first, second = run(pipeline, range(9))
    shared = np.linalg.norm(first.T_map_camera[3:, :3, 3] - second.T_map_camera[:3, :3, 3], axis=1)
    assert shared.max() < 0.1


def test_what_a_frame_shows_alone_is_computed_once_and_on_arrival(pipeline, make_frame, monkeypatch):
    def counted(name):
        original, sizes = getattr(pipeline.model, name), []
        monkeypatch.setattr(pipeline.model, name, lambda given: sizes.append(len(given)) or original(given))
        return sizes

    encoded, measured = counted("encode"), counted("measure")
    for number in range(12):
        window = pipeline.accept(make_frame(number))
        assert pipeline.prepare_pending() == 1
        assert len(pipeline._tracks) == len(pipeline._features)
        if window is not None:
            pipeline.process(window)
    assert sum(encoded) == sum(measured) == 12


def test_features_of_frames_that_are_gone_are_freed(pipeline, run):
    run(pipeline, range(40))
    assert len(pipeline._features) <= 2 * pipeline.config.window.size
    pipeline.reset()
    assert len(pipeline._features) == 0


def test_next_window_hands_out_what_waits(pipeline, make_frame):
    for number in range(6):
        pipeline.accept(make_frame(number))
    window = pipeline.next_window()
    assert pipeline.next_window() is None
    assert pipeline.process(window).status is WindowStatus.FIRST


def test_a_bad_frame_is_refused_and_counted(pipeline, make_frame):
    pipeline.accept(make_frame(0))
    with pytest.raises(FrameRejected, match="repeats the stamp"):
        pipeline.accept(make_frame(0))
    assert pipeline.stats.dropped == {DropReason.EQUAL_STAMP: 1}


def test_inference_that_raises_costs_its_frames_only(pipeline, run, make_frame, monkeypatch):
    run(pipeline, range(6))
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.model, "reconstruct", lambda **_: (_ for _ in ()).throw(RuntimeError("out of memory")))
        with pytest.raises(RuntimeError, match="out of memory"):
            run(pipeline, range(6, 9))
    assert pipeline.stats.dropped == {DropReason.INFERENCE_FAILED: 3}
    (result,) = run(pipeline, range(9, 12))
    assert result.status is WindowStatus.STITCHED and result.window_id == 1


def test_a_reset_in_mid_inference_voids_the_window(pipeline, run, monkeypatch):
    original = pipeline.model.reconstruct

    def reset_meanwhile(**arguments):
        thread = threading.Thread(target=pipeline.reset)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), "a reset does not wait for the network"
        return original(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.model, "reconstruct", reset_meanwhile)
        with pytest.raises(StaleWindowError, match="reset"):
            run(pipeline, range(6))
    assert len(pipeline.map_points()[0]) == 0 and pipeline.stats.dropped == {DropReason.RESET: 6}
    (result,) = run(pipeline, range(6, 12))
    assert result.window_id == 0 and result.status is WindowStatus.FIRST


def test_reset_forgets_map_path_and_history(pipeline, run):
    run(pipeline, range(9))
    pipeline.reset()
    assert len(pipeline.map_points()[0]) == 0 and len(pipeline.path[0]) == 0
    with pytest.raises(NoWindowError):
        pipeline.ask("What is here?")
    counts = pipeline.stats
    assert counts.received == 9 == counts.used + counts.dropped_total
    (result,) = run(pipeline, range(3, 9))
    assert result.window_id == 0


def test_an_outside_pose_places_the_window(pipeline, make_frame, room):
    for number in range(6):
        pipeline.accept(make_frame(number))
    result = pipeline.process(pipeline.next_window(), T_map_camera=room.camera(0))
    assert result.status is WindowStatus.ANCHORED and result.gravity_source == "tf"
    np.testing.assert_allclose(result.T_map_camera[0], room.camera(0), atol=1e-9)


def test_a_wrong_outside_pose_is_refused_and_the_pipeline_lives(pipeline, make_frame, run):
    for number in range(6):
        pipeline.accept(make_frame(number))
    with pytest.raises(ValueError, match="outside poses"):
        pipeline.process(pipeline.next_window(), T_map_camera=np.full((4, 4), np.nan))
    run(pipeline, range(6, 12))
    assert len(pipeline.path[0]) == 6


def test_a_known_upward_direction_levels_the_map(pipeline, make_frame):
    for number in range(6):
        pipeline.accept(make_frame(number))
    up = np.array([0.1, -0.9, -0.3])
    result = pipeline.process(pipeline.next_window(), up_camera=up)
    np.testing.assert_allclose(result.T_map_camera[0, :3, :3] @ up / np.linalg.norm(up), [0, 0, 1], atol=1e-9)


def test_other_values_take_effect(pipeline, run, small_config):
    run(pipeline, range(6))
    pipeline.configure(
        small_config.replace({"window.size": 4, "window.stride": 2, "cloud.max_points": 7, "path.max_poses": 5})
    )
    (result,) = run(pipeline, range(6, 8))
    assert len(result.window.frames) == 4 and len(result.points) == 7 and len(pipeline.path[0]) == 5


def test_the_same_frames_give_the_same_map(model, run, small_config):
    clouds = []
    for _ in range(2):
        pipeline = Pipeline(model, small_config)
        run(pipeline, range(9))
        clouds.append(pipeline.map_points()[0])
    np.testing.assert_array_equal(*clouds)


def test_camera_worker_and_readers_work_side_by_side(pipeline, make_frame):
    """A camera, a worker and an impatient operator; every frame is accounted for and nothing is left behind."""
    done = threading.Event()
    failures, seen = [], []

    def worker():
        while not (done.is_set() and pipeline.stats.waiting == 0):
            window = pipeline.next_window(timeout=0.05) or (pipeline.flush() if done.is_set() else None)
            try:
                if window is not None:
                    pipeline.process(window)
                    pipeline.locate(["chair"])
                else:
                    pipeline.prepare_pending()
            except (StaleWindowError, NoWindowError):
                pass
            except Exception as error:  # the test must see what a thread swallows
                failures.append(error)
                return

    def operator():
        for step in range(40):
            seen.append((len(pipeline.map_points()[0]), len(pipeline.path[0]), pipeline.stats.received))
            if step % 15 == 14:
                pipeline.reset()
            done.wait(0.02)

    threads = [threading.Thread(target=worker), threading.Thread(target=operator)]
    for thread in threads:
        thread.start()
    for number in range(120):
        pipeline.accept(make_frame(number))
        done.wait(0.005)
    threads[1].join(60)
    done.set()
    threads[0].join(120)
    assert len(seen) == 40 and not failures and not any(thread.is_alive() for thread in threads)
    counts = pipeline.stats
    assert counts.received == 120 == counts.used + counts.dropped_total
    assert len(pipeline._buffer.frames()) <= 6 * pipeline.config.window.size


def test_real_frames_give_a_pose_each(model, recorded_data):
    """58 photographs of a cabinet, with the camera matrix that belongs to them."""
    from vidllm_ros.perception.windows.sources import read_frames

    K = np.array([[535.4, 0, 320.1], [0, 539.2, 247.6], [0, 0, 1]])
    pipeline = Pipeline(model, PerceptionConfig().replace({"cloud.min_confidence": 0.0, "window.min_motion": 0.0}))
    statuses = []
    for frame in read_frames(recorded_data("tum_fr3_cabinet"), 4.0, K):
        window = pipeline.accept(frame)
        if window is not None:
            result = pipeline.process(window)
            statuses.append(result.status)
            np.testing.assert_allclose(result.reconstruction.image_intrinsics[0], K, atol=1e-6)
    while (window := pipeline.flush()) is not None:
        statuses.append(pipeline.process(window).status)
    assert statuses[0] is WindowStatus.FIRST and len(statuses) == 3
    assert pipeline.stats.used == pipeline.stats.received == 58
    assert np.isfinite(pipeline.path[1]).all() and torch.isfinite(pipeline.scene("all").tokens.features).all()
