"""Clips with frames.json, and what the procedural rooms write in that layout."""

import json
import logging

import numpy as np
import pytest
from scan_maker import window_config

from vidllm_ros.training.data import DataError, open_data
from vidllm_ros.training.rooms import room_video
from vidllm_ros.training.rooms.export import write_folder


@pytest.fixture(scope="module")
def video():
    return room_video(3, "test", frames=5, image_size=(84, 112))


@pytest.fixture
def clip(tmp_path, video, caplog):
    caplog.set_level(logging.WARNING, "vidllm_ros.training.data")
    return write_folder(video, tmp_path / "clips" / "room3", questions=2)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_written_room_comes_back(clip, video):
    (sample,) = open_data(f"clips:{clip.parent}", window_config(5))
    frames = list(video)
    assert sample.name == "clip/room3"
    assert np.array_equal(sample.rgb, np.stack([frame.rgb for frame in frames]))
    assert np.allclose(sample.depth, np.stack([frame.depth for frame in frames]), atol=0.00051)
    assert np.allclose(sample.T_world_camera, video.T_world_camera, atol=1e-8)
    assert np.allclose(sample.intrinsics, video.intrinsics)
    true = np.stack([box.center for box in video.boxes])
    assert sample.boxes and all(np.abs(true - box.center).max(axis=1).min() < 1e-4 for box in sample.boxes)


def test_frames_without_pose_or_depth_are_left_out(clip, video, caplog):
    def change(content):
        content["frames"][0]["pose_ok"] = False
        del content["frames"][2]["depth"]
        content["frames"][4]["T_world_cam"][0][3] = float("-inf")

    edit(clip / "frames.json", change)
    (sample,) = open_data(f"clips:{clip}", window_config(2))
    assert np.allclose(sample.T_world_camera, video.T_world_camera[[1, 3]], atol=1e-8)
    assert f"{clip}: 3 of 5 frames have no depth or no usable pose" in caplog.text


def test_an_unreadable_image_costs_its_frame(clip, video, caplog):
    damaged = (clip / "depth/000000.png").read_bytes()
    (clip / "depth/000000.png").write_bytes(damaged[: len(damaged) // 2])
    (clip / "rgb/000004.png").write_bytes(b"no picture")
    (sample,) = open_data(f"clips:{clip}", window_config(3))
    assert np.allclose(sample.T_world_camera, video.T_world_camera[1:4], atol=1e-8)
    assert "frame 0 is left out" in caplog.text and "rgb/000004.png is no readable image" in caplog.text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: (c / "intrinsics.json").unlink(), "intrinsics.json is missing or lacks fx, fy, cx, cy"),
        (lambda c: edit(c / "intrinsics.json", lambda j: j.update(fx="wide")), "intrinsics.json holds something else"),
        (lambda c: edit(c / "intrinsics.json", lambda j: j.update(fy=0)), "their focal lengths positive"),
        (lambda c: edit(c / "intrinsics.json", lambda j: j.update(distortion=[0.1])), "distortion has 1 values, not 4"),
        (lambda c: (c / "frames.json").write_text("[]"), "frames.json must hold an object"),
        (lambda c: edit(c / "frames.json", lambda j: j["frames"][1].pop("rgb")), "has a broken entry: KeyError('rgb')"),
        (lambda c: edit(c / "frames.json", lambda j: j["frames"][1].pop("stamp")), "frames.json has a broken entry"),
        (lambda c: (c / "ground_truth/boxes.json").write_text("["), "boxes.json cannot be read"),
    ],
)
def test_broken_files_are_refused(clip, damage, message):
    damage(clip)
    with pytest.raises(DataError) as caught:
        list(open_data(f"clips:{clip}", window_config(5)))
    assert message in str(caught.value) and str(clip) in str(caught.value)


def test_a_folder_without_clips(tmp_path):
    with pytest.raises(DataError, match=r"holds no frames.json, and no folder in it does"):
        open_data(f"clips:{tmp_path}", window_config())
